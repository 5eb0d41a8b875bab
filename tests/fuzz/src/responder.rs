//! Frames between the node and its responder.

use palisade_kernel_abi::responder::{MAX_FRAME, decode_reply, decode_request, encode_reply, encode_request};

/// Reads the bytes as a request and as a reply. What is taken is a frame of the bound, and is read again the same.
///
/// # Panics
/// Where it is not.
pub fn responder(bytes: &[u8]) {
    if let Ok((number, request)) = decode_request(bytes) {
        let frame = encode_request(number, &request);
        assert!(frame.len() <= MAX_FRAME, "{} bytes", frame.len());
        assert_eq!(decode_request(&frame), Ok((number, request)));
    }
    if let Ok((number, answer)) = decode_reply(bytes) {
        let frame = encode_reply(number, &answer);
        assert!(frame.len() <= MAX_FRAME, "{} bytes", frame.len());
        let again = decode_reply(&frame).expect("a reply of its own writing");
        // Text that is cut is text for people.
        assert!(again.0 == number && again.1.is_ok() == answer.is_ok());
    }
}
