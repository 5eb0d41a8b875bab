//! Frames and messages of links: what a peer writes that has a certificate, and may still be broken or hostile.

use palisade_wire::frame::{
    Frame, LENGTH_BYTES, LONGEST_ANSWER, LONGEST_FRAME, LONGEST_MESSAGE, MOST_ALERTS, MOST_MESSAGES, MOST_ROWS,
    Message, TreeRow, length,
};

/// Reads the bytes as what stands on a stream, frame after frame; and as the body of a frame and as a message without that. What is taken
/// holds to the bounds, and is read again the same when it is written.
///
/// # Panics
/// Where it is not.
pub fn frame(bytes: &[u8]) {
    let mut stream = bytes;
    while let Some((prefix, rest)) = stream.split_first_chunk::<LENGTH_BYTES>() {
        let Ok(length) = length(*prefix) else { break };
        assert!(length <= LONGEST_FRAME);
        let Some((body, rest)) = rest.split_at_checked(length) else { break };
        if !body_is_taken(body) {
            break;
        }
        stream = rest;
    }
    body_is_taken(bytes);
    message(bytes);
}

fn body_is_taken(body: &[u8]) -> bool {
    let Ok(frame) = Frame::read(&body.to_vec().into()) else { return false };
    if let Frame::Batch(batch) = &frame {
        assert!((1..=MOST_MESSAGES).contains(&batch.messages.len()));
        assert!(batch.first > 0 && batch.first.checked_add(batch.messages.len() as u64).is_some());
        let whole: usize = batch.messages.iter().map(|message| message.len()).sum();
        assert!(whole < body.len(), "{whole} bytes of messages in {}", body.len());
        for bytes in &batch.messages {
            assert!(bytes.len() <= LONGEST_MESSAGE);
            message(bytes);
        }
    }
    let mut written = Vec::new();
    frame.write(&mut written);
    // What was not written in its shortest form is longer than what is; so it fits where that did.
    assert!(written.len() <= LENGTH_BYTES + body.len(), "{} bytes of {}", written.len(), body.len());
    let (prefix, again) = written.split_first_chunk::<LENGTH_BYTES>().expect("a frame of its own writing");
    assert_eq!(length(*prefix), Ok(again.len()));
    assert_eq!(Frame::read(&again.to_vec().into()), Ok(frame));
    true
}

fn message(bytes: &[u8]) {
    if let Ok(message) = Message::read(bytes) {
        match &message {
            Message::Tree { rows, .. } => {
                let text = |row: &TreeRow| {
                    row.name.len() + row.kind.len() + row.state.len() + row.last_error.as_ref().map_or(0, String::len)
                };
                assert!(rows.len() <= MOST_ROWS && rows.iter().map(text).sum::<usize>() <= LONGEST_ANSWER);
            }
            Message::Alerts { lines, .. } | Message::Followed { lines, .. } => {
                assert!(lines.len() <= MOST_ALERTS && lines.iter().map(String::len).sum::<usize>() <= LONGEST_ANSWER);
            }
            Message::AskTree { .. } | Message::AskAlerts { .. } | Message::FollowAlerts { .. } => {}
        }
        assert_eq!(Message::read(&message.write()), Ok(message));
    }
}
