use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use camino::Utf8Path;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpListener;

use super::*;

const QUICK: Pace = Pace {
    first_pause: Duration::from_millis(5),
};

const NEWS: News<'_> = News {
    state: NotifiedState::Available,
    arn: "local:image/web/1.0.0/1",
    payload: r#"{"name":"web"}"#,
};

/// A request as it arrived.
#[derive(Debug, Clone)]
struct Request {
    line: String,
    headers: Vec<String>,
    body: String,
}

/// A server on loopback that answers with these statuses in turn, and 200 afterwards; 0 closes the connection.
async fn server(statuses: &[u16]) -> (String, Arc<Mutex<Vec<Request>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut statuses: VecDeque<u16> = statuses.iter().copied().collect();
    let requests = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut reader = BufReader::new(stream);
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).await.unwrap();
                if line.trim().is_empty() {
                    break;
                }
                lines.push(line.trim().to_owned());
            }
            let length: usize = lines
                .iter()
                .find_map(|line| {
                    line.to_lowercase()
                        .strip_prefix("content-length: ")?
                        .parse()
                        .ok()
                })
                .unwrap_or(0);
            let mut body = vec![0; length];
            reader.read_exact(&mut body).await.unwrap();
            let line = lines.remove(0);
            requests.lock().unwrap().push(Request {
                line,
                headers: lines,
                body: String::from_utf8(body).unwrap(),
            });
            let status = statuses.pop_front().unwrap_or(200);
            if status != 0 {
                let answer = format!(
                    "HTTP/1.1 {status} x\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                );
                let _ = reader.get_mut().write_all(answer.as_bytes()).await;
            }
        }
    });
    (base, seen)
}

fn notification(value: serde_json::Value) -> Notification {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn a_webhook_gets_the_payload_and_its_headers() {
    let (base, seen) = server(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = Utf8Path::from_path(folder.path()).unwrap().join("token");
    std::fs::write(&file, "Bearer from-file\n").unwrap();
    let hook = notification(json!({ "webhook": {
        "url": format!("{base}/hook?key=1"),
        "headers": [
            { "name": "X-Plain", "value": "plain" },
            { "name": "Authorization", "valueFromFile": file },
            // Set for every test by cargo.
            { "name": "X-From-Environment", "valueFromEnvironment": "CARGO_MANIFEST_DIR" },
        ],
    } }));
    assert_eq!(notify(&[hook], NEWS, QUICK).await, []);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].line, "POST /hook?key=1 HTTP/1.1");
    assert_eq!(seen[0].body, NEWS.payload);
    for header in [
        "content-type: application/json".to_owned(),
        "x-plain: plain".to_owned(),
        "authorization: Bearer from-file".to_owned(),
        format!("x-from-environment: {}", env!("CARGO_MANIFEST_DIR")),
    ] {
        assert!(seen[0].headers.contains(&header), "{:?}", seen[0].headers);
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let (base, seen) = server(&[0, 503, 429]).await;
    let hook = notification(json!({ "webhook": { "url": base }, "attempts": 4 }));
    assert_eq!(notify(&[hook], NEWS, QUICK).await, []);
    assert_eq!(seen.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn what_will_not_pass_is_not_tried_again() {
    // A redirect is not followed: nobody else gets the headers.
    for (status, said) in [(404, "404 Not Found"), (302, "302 Found")] {
        let (base, seen) = server(&[status]).await;
        let hook = notification(json!({ "webhook": { "url": format!("{base}/hook?secret=1") } }));
        let problems = notify(&[hook], NEWS, QUICK).await;
        assert_eq!(
            problems[0].to_string(),
            format!("{base}/hook was not told: it answered {said} (1 attempt)")
        );
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn an_address_that_stays_away_is_given_up() {
    let (base, seen) = server(&[500, 500, 500, 500]).await;
    let hook = notification(json!({ "webhook": { "url": base }, "attempts": 2 }));
    let problems = notify(&[hook], NEWS, QUICK).await;
    assert_eq!(problems[0].attempts, Attempts(2));
    assert_eq!(seen.lock().unwrap().len(), 2);
    // Nobody listens on a port that was just given back.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let hook = notification(json!({ "webhook": { "url": format!("http://{address}/") } }));
    let problems = notify(&[hook], NEWS, QUICK).await;
    assert_eq!(problems[0].attempts, Attempts(3));
    assert!(problems[0].problem.contains("refused"), "{problems:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_costs_one_time_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hook = notification(json!({
        "webhook": { "url": format!("http://{address}/") }, "timeoutSeconds": 1, "attempts": 1,
    }));
    let problems = notify(&[hook], NEWS, QUICK).await;
    assert_eq!(problems[0].problem, "no answer within 1s");
}

#[tokio::test]
async fn a_missing_secret_is_named_and_nothing_is_sent() {
    let (base, seen) = server(&[]).await;
    let hooks = [
        json!({ "name": "Authorization", "valueFromEnvironment": "OVENBIRD_TEST_NOT_SET" }),
        json!({ "name": "Authorization", "valueFromFile": "/nowhere/token" }),
        json!({ "name": "Authorization", "value": "two\nlines" }),
    ]
    .map(|header| notification(json!({ "webhook": { "url": base, "headers": [header] } })));
    let problems: Vec<String> = notify(&hooks, NEWS, QUICK)
        .await
        .into_iter()
        .map(|problem| problem.problem)
        .collect();
    insta::assert_snapshot!(problems.join("\n"), @"
    the environment variable OVENBIRD_TEST_NOT_SET is not set
    cannot read /nowhere/token: No such file or directory (os error 2)
    the value of the header Authorization holds a line break or another control character
    ");
    assert_eq!(seen.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_command_gets_the_payload_on_its_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = Utf8Path::from_path(folder.path()).unwrap().join("out");
    let script =
        format!("cat > {file}; echo \" $OVENBIRD_IMAGE_STATE $OVENBIRD_IMAGE_ARN\" >> {file}");
    let told = notification(json!({ "command": ["sh", "-c", script] }));
    assert_eq!(notify(&[told], NEWS, QUICK).await, []);
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "{\"name\":\"web\"} AVAILABLE local:image/web/1.0.0/1\n"
    );
}

#[tokio::test]
async fn commands_that_fail() {
    let large = "x".repeat(1 << 20);
    let news = News {
        payload: &large,
        ..NEWS
    };
    let commands = [
        // Does not read its input, which is larger than a pipe.
        json!({ "command": ["true"] }),
        json!({ "command": ["sh", "-c", "cat > /dev/null; echo sorry >&2; exit 3"], "attempts": 2 }),
        json!({ "command": ["/nowhere/program"] }),
        json!({ "command": ["sleep", "600"], "timeoutSeconds": 1, "attempts": 1 }),
    ]
    .map(notification);
    let problems: Vec<String> = notify(&commands, news, QUICK)
        .await
        .iter()
        .map(ToString::to_string)
        .collect();
    insta::assert_snapshot!(problems.join("\n"), @"
    sh was not told: exit status: 3: sorry (2 attempts)
    /nowhere/program was not told: cannot start it: No such file or directory (os error 2) (1 attempt)
    sleep was not told: no answer within 1s (1 attempt)
    ");
}

#[tokio::test]
async fn only_the_states_that_were_asked_for_are_told() {
    let (base, seen) = server(&[]).await;
    let hook = notification(json!({ "webhook": { "url": base }, "on": ["FAILED"] }));
    assert_eq!(notify(std::slice::from_ref(&hook), NEWS, QUICK).await, []);
    assert_eq!(seen.lock().unwrap().len(), 0);
    let failed = News {
        state: NotifiedState::Failed,
        ..NEWS
    };
    assert_eq!(notify(&[hook], failed, QUICK).await, []);
    assert_eq!(seen.lock().unwrap().len(), 1);
}
