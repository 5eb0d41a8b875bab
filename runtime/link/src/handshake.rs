//! The first words on a connection: who both are, which version they speak, and where each goes on.
//!
//! TLS has seen the certificates by then, but for one thing: who dials is not called by a name, so the name that it gives itself is held
//! against its certificate here.

use std::time::Duration;

use palisade_domain::Refusal;
use palisade_wire::frame::{Frame, Hello, Place, SPOKEN, Versions, Welcome};
use quinn::{Connection, SendStream};
use rustls::pki_types::CertificateDer;

use crate::{
    ended::{self, Ended},
    links::Shared,
    stream::{self, FrameReader},
    verify,
};

/// For each step of a handshake.
pub(crate) const WITHIN: Duration = Duration::from_secs(5);

/// Who dialled this node, and said so rightly.
pub(crate) struct Arrival {
    pub(crate) connection: Connection,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Our own certificates, as it saw them.
    pub(crate) shown: Vec<CertificateDer<'static>>,
    pub(crate) hello: Hello,
    pub(crate) version: u32,
    pub(crate) control: (SendStream, FrameReader),
}

/// The certificates that the other side showed.
pub(crate) fn chain(connection: &Connection) -> Vec<CertificateDer<'static>> {
    let identity = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    identity.map(|chain| *chain).unwrap_or_default()
}

fn refused(connection: &Connection, why: Refusal, said: String) -> Ended {
    ended::refuse(connection, why, &said);
    Ended::Refused { why, said, by_us: true }
}

/// What must be of a frame that comes in time.
async fn first(reader: &mut FrameReader, connection: &Connection) -> Result<Frame, Ended> {
    match tokio::time::timeout(WITHIN, reader.next()).await {
        Ok(Ok(Some(frame))) => Ok(frame),
        Ok(Ok(None)) => Err(refused(connection, Refusal::Protocol, "no first frame".into())),
        Ok(Err(stream::StreamError::Frame(error))) => Err(refused(connection, Refusal::Protocol, error.to_string())),
        Ok(Err(error)) => Err(Ended::of_connection(connection, &error)),
        Err(_) => Err(refused(connection, Refusal::Protocol, "no first frame in time".into())),
    }
}

/// Takes up what a dialling node says.
pub(crate) async fn hear(
    shared: &Shared,
    connection: Connection,
    shown: Vec<CertificateDer<'static>>,
) -> Result<Arrival, Ended> {
    let opened = tokio::time::timeout(WITHIN, connection.accept_bi()).await;
    let (tell, heard) = match opened {
        Ok(Ok(streams)) => streams,
        Ok(Err(error)) => return Err(Ended::of(&error)),
        Err(_) => return Err(refused(&connection, Refusal::Protocol, "it opened no stream in time".into())),
    };
    let mut heard = FrameReader::new(heard);
    let Frame::Hello(hello) = first(&mut heard, &connection).await? else {
        return Err(refused(&connection, Refusal::Protocol, "the first frame is no hello".into()));
    };
    let chain = chain(&connection);
    let named = chain.first().map_or(Err("no certificate".to_owned()), |own| {
        verify::is_named(own, &hello.name).map_err(|error| verify::plain(&error.to_string()))
    });
    if let Err(said) = named {
        return Err(refused(&connection, Refusal::WrongName, said));
    }
    if hello.name == shared.name {
        return Err(refused(&connection, Refusal::Itself, format!("{} is the name of this node", hello.name)));
    }
    match SPOKEN.common(hello.versions) {
        Some(version) => Ok(Arrival { connection, chain, shown, hello, version, control: (tell, heard) }),
        None => {
            let said = format!("{} speaks version {SPOKEN}, {} version {}", shared.name, hello.name, hello.versions);
            Err(refused(&connection, Refusal::Version, said))
        }
    }
}

/// Answers who was heard.
pub(crate) async fn welcome(
    shared: &Shared,
    connection: &Connection,
    tell: &mut SendStream,
    version: u32,
    taken: Option<Place>,
) -> Result<(), Ended> {
    let frame = Frame::Welcome(Welcome { version, name: shared.name.clone(), taken });
    say(connection, tell, &frame).await
}

/// Writes what a handshake says. Who gives the stream no room is waited for no longer than who says nothing: while it is, the link that it had
/// is looked at by nobody.
async fn say(connection: &Connection, tell: &mut SendStream, frame: &Frame) -> Result<(), Ended> {
    match tokio::time::timeout(WITHIN, stream::write(tell, frame)).await {
        Ok(written) => written.map_err(|error| Ended::of_connection(connection, &error)),
        Err(_) => Err(refused(connection, Refusal::Protocol, "it did not take the handshake in time".into())),
    }
}

/// Says who we are to a node that we dialled, and hears what it has of us.
pub(crate) async fn greet(
    shared: &Shared,
    connection: &Connection,
    called: &palisade_domain::NodeName,
    taken: Option<Place>,
) -> Result<(Option<Place>, (SendStream, FrameReader)), Ended> {
    let opened = tokio::time::timeout(WITHIN, connection.open_bi()).await;
    let (mut tell, heard) = match opened {
        Ok(opened) => opened.map_err(|error| Ended::of(&error))?,
        Err(_) => return Err(refused(connection, Refusal::Protocol, "it permitted no stream in time".into())),
    };
    let hello = Frame::Hello(Hello { versions: spoken(shared), name: shared.name.clone(), taken });
    say(connection, &mut tell, &hello).await?;
    let mut heard = FrameReader::new(heard);
    let Frame::Welcome(welcome) = first(&mut heard, connection).await? else {
        return Err(refused(connection, Refusal::Protocol, "the first frame is no welcome".into()));
    };
    if welcome.name != *called {
        let said = format!("it calls itself {}, not {called}", welcome.name);
        return Err(refused(connection, Refusal::WrongName, said));
    }
    if !SPOKEN.contain(welcome.version) {
        let said = format!("it chose version {}, of {SPOKEN}", welcome.version);
        return Err(refused(connection, Refusal::Version, said));
    }
    Ok((welcome.taken, (tell, heard)))
}

/// What we say to speak; tests say other things.
fn spoken(shared: &Shared) -> Versions {
    shared.config.spoken
}
