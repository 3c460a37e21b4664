//! The cache between a real client and a mirror that counts.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::*;

/// A mirror: answers by path, and remembers what it was asked.
struct Mirror {
    server: Loopback,
    asked: Arc<Mutex<Vec<String>>>,
    /// The text of `/dists/InRelease`.
    release: Arc<Mutex<&'static str>>,
    down: Arc<AtomicBool>,
}

async fn mirror() -> Mirror {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let release = Arc::new(Mutex::new("first"));
    let down = Arc::new(AtomicBool::new(false));
    let (seen, text, broken) = (asked.clone(), release.clone(), down.clone());
    let server = Loopback::serve(move |request: Request<Incoming>| {
        let known = request
            .headers()
            .get(header::IF_NONE_MATCH)
            .map(|value| value.to_str().unwrap().to_owned());
        let path = request.uri().path().to_owned();
        seen.lock().unwrap().push(match &known {
            Some(etag) => format!("{path} if not {etag}"),
            None => path.clone(),
        });
        let text = *text.lock().unwrap();
        let broken = broken.load(Ordering::Relaxed);
        async move {
            if broken {
                return refusal(StatusCode::SERVICE_UNAVAILABLE, "down");
            }
            let etag = format!("\"{text}\"");
            let response = Response::builder().header(header::ETAG, &etag);
            if known.as_ref() == Some(&etag) {
                return finish(response.status(StatusCode::NOT_MODIFIED), empty());
            }
            match path.as_str() {
                "/dists/InRelease" => finish(response, full(text)),
                "/pool/hello_1.0_amd64.deb" => finish(response, full("a package")),
                // Promises more than comes.
                "/pool/cut_1.0_amd64.deb" => {
                    finish(response.header(header::CONTENT_LENGTH, 100), full("short"))
                }
                "/moved" => finish(
                    response
                        .status(StatusCode::FOUND)
                        .header(header::LOCATION, "http://169.254.169.254/latest/"),
                    empty(),
                ),
                _ => refusal(StatusCode::NOT_FOUND, "nothing here"),
            }
        }
    })
    .await
    .unwrap();
    Mirror {
        server,
        asked,
        release,
        down,
    }
}

fn full(text: &'static str) -> Body {
    Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed_unsync()
}

impl Mirror {
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address())
    }
}

/// The mirror of these tests is on this machine.
fn beside() -> PackageSettings {
    PackageSettings {
        mirrors: vec!["127.0.0.1".into()],
    }
}

fn client(cache: &PackageCache) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .proxy(reqwest::Proxy::http(format!("http://{}", cache.address())).unwrap())
        .build()
        .unwrap()
}

async fn get(client: &reqwest::Client, url: String) -> (u16, String) {
    let answer = client.get(url).send().await.unwrap();
    (
        answer.status().as_u16(),
        answer.text().await.unwrap_or_else(|_| "broken".into()),
    )
}

#[tokio::test]
async fn packages_come_once_and_indexes_are_asked_after() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let mirror = mirror().await;
    let cache = PackageCache::start(folder, &beside()).await.unwrap();
    let client = client(&cache);
    assert_eq!(cache.summary(), None);
    for _ in 0..3 {
        let package = get(&client, mirror.url("/pool/hello_1.0_amd64.deb")).await;
        assert_eq!(package, (200, "a package".into()));
    }
    assert_eq!(mirror.asked(), ["/pool/hello_1.0_amd64.deb"]);

    let index = || get(&client, mirror.url("/dists/InRelease"));
    assert_eq!(index().await, (200, "first".into()));
    assert_eq!(index().await, (200, "first".into()));
    *mirror.release.lock().unwrap() = "second";
    assert_eq!(index().await, (200, "second".into()));
    assert_eq!(
        mirror.asked(),
        [
            "/dists/InRelease",
            "/dists/InRelease if not \"first\"",
            "/dists/InRelease if not \"first\"",
        ]
    );
    assert_eq!(
        cache.summary().unwrap(),
        "package downloads: 3 from the cache (0.0 MiB), 3 from the mirrors"
    );
    // Errors are handed on and not kept.
    for _ in 0..2 {
        assert_eq!(get(&client, mirror.url("/pool/no.deb")).await.0, 404);
    }
    assert_eq!(mirror.asked().len(), 2);
    // Without the mirror packages still come, an index does not: it might be another by now.
    mirror.down.store(true, Ordering::Relaxed);
    let package = get(&client, mirror.url("/pool/hello_1.0_amd64.deb")).await;
    assert_eq!(package.0, 200);
    assert_eq!(index().await.0, 503);
}

#[tokio::test]
async fn what_is_cut_short_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let mirror = mirror().await;
    let cache = PackageCache::start(folder, &beside()).await.unwrap();
    let client = client(&cache);
    for _ in 0..2 {
        let (_, text) = get(&client, mirror.url("/pool/cut_1.0_amd64.deb")).await;
        assert_ne!(text, "short");
    }
    assert!(mirror.asked().len() >= 2, "each time anew");
    let kept = folder
        .read_dir_utf8()
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension() == Some("body"))
        .count();
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn only_plain_requests_pass_and_room_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let mirror = mirror().await;
    let cache = PackageCache::start(folder, &beside()).await.unwrap();
    let client = client(&cache);
    let posted = client.post(mirror.url("/x")).send().await.unwrap();
    assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
    let direct = reqwest::get(format!("http://{}/x", cache.address()))
        .await
        .unwrap();
    assert_eq!(direct.status(), StatusCode::BAD_REQUEST);
    let other = client.get("http://deb.example.org/x").send().await.unwrap();
    assert_eq!(other.status(), StatusCode::FORBIDDEN);
    assert_eq!(mirror.asked(), Vec::<String>::new());
    get(&client, mirror.url("/pool/hello_1.0_amd64.deb")).await;
    drop(cache);
    let cache = PackageCache::start_with_limit(folder, &beside(), 3)
        .await
        .unwrap();
    let client = self::client(&cache);
    mirror.asked();
    get(&client, mirror.url("/pool/hello_1.0_amd64.deb")).await;
    assert_eq!(mirror.asked().len(), 1, "it had to go");
}

#[tokio::test]
async fn no_guest_gets_at_this_machine_through_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let mirror = mirror().await;
    let settings = PackageSettings::default();
    let cache = PackageCache::start(folder, &settings).await.unwrap();
    let client = client(&cache);
    let (status, text) = get(&client, mirror.url("/pool/hello_1.0_amd64.deb")).await;
    assert_eq!(status, 403);
    assert!(text.contains("this machine or its cloud's"), "{text}");
    // By a name it is known only once that is looked up.
    let port = mirror.server.address().port();
    let (status, text) = get(&client, format!("http://localhost:{port}/x")).await;
    assert_eq!(status, 502);
    assert!(text.contains("localhost is this machine"), "{text}");
    insta::assert_snapshot!(
        cache.summary().unwrap(),
        @"package downloads: not asked: 127.0.0.1, localhost (this machine's own or its cloud's; a mirror among them has to be named under `packages.mirrors` of config.toml)"
    );
    // Nor may a mirror send on to it.
    let named = PackageCache::start(folder, &beside()).await.unwrap();
    let (status, text) = get(&self::client(&named), mirror.url("/moved")).await;
    assert_eq!(status, 502);
    assert!(text.contains("not among `packages.mirrors`"), "{text}");
    assert_eq!(mirror.asked(), ["/moved"]);
}
