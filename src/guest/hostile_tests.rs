//! A guest that lies: an SSH server that answers as it likes. The host must end each talk within its limits, with a
//! reason.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ovenbird_component::attend::{Kind, header};
use ovenbird_component::event::Event as AgentEvent;
use russh::keys::PrivateKey;
use russh::server::{self, Auth, ChannelOpenHandle, Msg, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use tokio::net::TcpListener;

use super::agent::{self, AgentExit};
use super::keys::BakeKeys;
use super::refresh;
use super::ssh::{Session, SshError};

/// What the guest answers to any command.
#[derive(Clone)]
enum Answer {
    /// These bytes, then an exit status.
    Once(Vec<u8>, u32),
    /// These bytes again and again.
    Forever(Vec<u8>),
    /// These bytes, then the connection is cut.
    Cut(Vec<u8>),
}

#[derive(Clone)]
struct Liar(Answer);

impl server::Handler for Liar {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)?;
        let (handle, answer) = (session.handle(), self.0.clone());
        tokio::spawn(async move {
            match answer {
                Answer::Once(bytes, status) => {
                    let _ = handle.data(channel, bytes).await;
                    let _ = handle.exit_status_request(channel, status).await;
                    let _ = handle.close(channel).await;
                }
                Answer::Forever(bytes) => {
                    while handle.data(channel, bytes.clone()).await.is_ok() {}
                }
                Answer::Cut(bytes) => {
                    let _ = handle.data(channel, bytes).await;
                    let _ = handle
                        .disconnect(russh::Disconnect::ByApplication, "bye".into(), "en".into())
                        .await;
                }
            }
        });
        Ok(())
    }
}

/// A session with a guest that answers so.
async fn session(answer: Answer) -> Session {
    let keys = BakeKeys::generate().unwrap();
    let host: PrivateKey = keys.host.clone();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(server::Config {
        keys: vec![host.clone()],
        ..server::Config::default()
    });
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(running) = server::run_stream(config, stream, Liar(answer)).await {
            let _ = running.await;
        }
    });
    Session::connect(port, "ovenbird", &keys.user, host.public_key())
        .await
        .unwrap()
}

/// Nothing here may take long.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .expect("an end within a minute")
}

#[tokio::test]
async fn endless_output_is_cut_at_its_limit() {
    let session = session(Answer::Forever(vec![b'x'; 32 * 1024])).await;
    let error = soon(session.run("cat log", &[], 1 << 20)).await.unwrap_err();
    assert!(matches!(error, SshError::TooMuch { limit } if limit == 1 << 20), "{error}");
}

#[tokio::test]
async fn an_endless_line_is_no_event_and_takes_no_memory() {
    let mut bytes = vec![b'{'; 40 << 20];
    bytes.extend_from_slice(b"\n{\"v\":1}\nhello\n");
    let session = session(Answer::Once(bytes, 0)).await;
    let mut told = Vec::new();
    let exit = soon(agent::run(&session, &["run"], &[], |event| told.push(event))).await;
    assert_eq!(exit.unwrap(), AgentExit::Success);
    let messages: Vec<&str> = told
        .iter()
        .map(|event| match event {
            AgentEvent::Log { message, .. } => message.as_str(),
            other => panic!("{other:?} was never sent"),
        })
        .collect();
    assert_eq!(messages.len(), 3, "the long one, the unknown one, the greeting");
    assert!(messages.iter().all(|message| message.len() < 4096));
    assert!(messages[0].starts_with("not an event: {{{"));
}

#[tokio::test]
async fn an_agent_that_is_none_is_refused() {
    let other = session(Answer::Once(b"0000000000000000  -\n".to_vec(), 1)).await;
    let failure = soon(agent::deploy(&other)).await.unwrap_err();
    assert!(failure.chain().contains("cannot copy /var/lib/ovenbird/agent"), "{}", failure.chain());
    // It says that all went well, and sends what no agent sends.
    let liar = session(Answer::Once(b"ovenbird-agent 9\n".to_vec(), 0)).await;
    let failure = soon(agent::deploy(&liar)).await.unwrap_err();
    assert!(failure.chain().contains("the agent does not run in this guest"), "{}", failure.chain());
}

#[tokio::test]
async fn frames_that_were_not_agreed_end_the_talk() {
    let huge = [b'o', 0xff, 0xff, 0xff, 0xff].to_vec();
    let wrong = header(Kind::Command, b"").to_vec();
    let short = [&header(Kind::Exit, b"ab")[..], b"ab"].concat();
    for (frame, reason) in [
        (huge, "a frame of 4294967295 bytes"),
        (b"zzzzzzzz".to_vec(), "a frame of the unknown kind 0x7a"),
        (wrong, "a frame that only the host sends"),
        (short, "an exit status of another size"),
    ] {
        let session = session(Answer::Once(frame, 0)).await;
        session.attend().await.unwrap();
        let error = soon(session.run("true", &[], 10)).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    let session = session(Answer::Cut(header(Kind::Stdout, &[0; 100]).to_vec())).await;
    session.attend().await.unwrap();
    let error = soon(session.run("true", &[], 10)).await.unwrap_err();
    assert!(matches!(error, SshError::Broken(_)), "{error}");
}

#[tokio::test]
async fn a_freeze_that_says_nonsense_fails() {
    for nonsense in [b"melted\n".to_vec(), vec![b'f'; 1 << 20]] {
        let session = session(Answer::Forever(nonsense)).await;
        let failure = soon(refresh::freeze(&session)).await.err().unwrap();
        assert!(failure.chain().contains("cannot freeze the guest's filesystems"), "{}", failure.chain());
    }
}
