//! Pictures fetched from a server on 127.0.0.1, which misbehaves in every way that servers do.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Cursor, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant, SystemTime},
};

use image::{ImageFormat, Rgb, RgbImage};
use xr_data::{
    Download, Downloaded, Result,
    dataset::{Strictness, open},
};

/// What the server sends for a path that is asked for the n-th time, from 1.
type Answer = dyn Fn(&str, usize) -> Vec<u8> + Send + Sync;

/// How often each path was asked for.
type Counts = BTreeMap<String, usize>;

struct Server {
    port: u16,
    counts: Arc<Mutex<Counts>>,
}

impl Server {
    fn start(answer: impl Fn(&str, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let counts = Arc::new(Mutex::new(Counts::new()));
        let (answer, counted): (Arc<Answer>, _) = (Arc::new(answer), counts.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, counted) = (answer.clone(), counted.clone());
                thread::spawn(move || serve(stream.unwrap(), &*answer, &counted));
            }
        });
        Self { port, counts }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn counts(&self) -> Counts {
        self.counts.lock().unwrap().clone()
    }

    fn count(&self, path: &str) -> usize {
        self.counts().get(path).copied().unwrap_or_default()
    }
}

/// One request, and the end of the connection.
fn serve(mut stream: TcpStream, answer: &Answer, counts: &Mutex<Counts>) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let request: Vec<String> =
        lines.map_while(|line| line.ok()).take_while(|line| !line.is_empty()).collect();
    let Some(path) = request.first().and_then(|line| line.split(' ').nth(1)) else { return };
    let count = {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(path.into()).or_default();
        *count += 1;
        *count
    };
    // A client that has given up doesn't listen.
    let _ = stream.write_all(&answer(path, count));
}

fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn ok(body: &[u8]) -> Vec<u8> {
    response("200 OK", "Content-Type: image/png\r\n", body)
}

fn nothing(status: &str, headers: &str) -> Vec<u8> {
    response(status, headers, b"")
}

/// A picture of its own for each text.
fn png(text: &str) -> Vec<u8> {
    let seed = text.bytes().fold(7u32, |seed, byte| seed * 31 % 65_521 + u32::from(byte));
    let picture = RgbImage::from_fn(20, 10, |x, y| Rgb([(x * seed) as u8, (y * 9) as u8, 80]));
    encoded(&picture, ImageFormat::Png)
}

fn encoded(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(vec![]);
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A folder with the table `p.csv` of addresses and titles.
fn table(rows: &[(String, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let row = |(url, title): &(String, &str)| format!("{url},{title},4.5\n");
    let rows: String = rows.iter().map(row).collect();
    fs::write(dir.path().join("p.csv"), format!("imgUrl,title,stars\n{rows}")).unwrap();
    dir
}

fn quick() -> Download {
    Download {
        parallel: 4,
        attempts: 3,
        wait: Duration::from_millis(5),
        timeout: Duration::from_secs(5),
        max_bytes: 10_000,
        ..Download::default()
    }
}

fn fetch(download: &Download, dir: &Path) -> Result<Downloaded> {
    let mut last = 0;
    download.run(&dir.join("p.csv"), &dir.join("out"), |done, all| {
        assert!(done <= all && done > last, "{done} of {all} after {last}");
        last = done;
    })
}

/// Address and reason, as `dead.csv` has them.
fn dead(dir: &Path) -> Vec<(String, String)> {
    let mut reader = csv::Reader::from_path(dir.join("out/dead.csv")).unwrap();
    reader.deserialize().collect::<csv::Result<_>>().unwrap()
}

/// All files below `out/pictures`.
fn pictures(dir: &Path) -> Vec<PathBuf> {
    let below = |path: &Path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<_> = below(&dir.join("out/pictures")).collect();
    folders.iter().flat_map(|folder| below(folder)).collect()
}

#[test]
fn whatever_servers_do() {
    let server = Server::start(|path, count| match (path, count) {
        ("/gone", _) => nothing("404 Not Found", ""),
        ("/removed", _) => nothing("410 Gone", ""),
        ("/busy", 1) => nothing("500 Internal Server Error", ""),
        ("/busier", _) => nothing("503 Service Unavailable", ""),
        ("/moved", _) => nothing("302 Found", "Location: /there\r\n"),
        ("/circle", _) => nothing("302 Found", "Location: /circle\r\n"),
        ("/cut", 1) | ("/always-cut", _) => {
            let whole = ok(&png(path));
            whole[..whole.len() - 9].to_vec()
        }
        ("/page", _) => response("200 OK", "Content-Type: text/html\r\n", b"<html>No</html>"),
        ("/large", _) => ok(&[0; 10_001]),
        ("/pixel", _) => ok(&encoded(&RgbImage::new(1, 1), ImageFormat::Gif)),
        ("/copy", _) => ok(&png("/plain")),
        _ => ok(&png(path)),
    });
    let url = |path| server.url(path);
    let dir = table(&[
        (url("/plain"), "a plain one"),
        (url("/gone"), "one"),
        (url("/removed"), "one"),
        (url("/busy"), "a busy &amp; late one"),
        (url("/busier"), "one"),
        (url("/moved"), "one that moved"),
        (url("/circle"), "one"),
        (url("/cut"), "one that was cut"),
        (url("/always-cut"), "one"),
        (url("/page"), "one"),
        (url("/large"), "one"),
        (url("/pixel"), "one"),
        (url("/plain"), "the plain one again"),
        (url("/plain"), "a plain one"),
        (url("/copy"), "a copy"),
        (url("/untitled"), " "),
        ("photos/a.jpg".into(), "one at home"),
    ]);
    let dir = dir.path();
    let made = fetch(&quick(), dir).unwrap();

    let expected = [
        ("/gone", "404 Not Found"),
        ("/removed", "410 Gone"),
        ("/busier", "503 Service Unavailable"),
        ("/circle", "too many redirects"),
        ("/always-cut", "io: Peer disconnected"),
        ("/page", "no picture (text/html): The image format could not be determined"),
        ("/large", "more than 10000 bytes"),
        (
            "/pixel",
            "no picture (image/png): a single pixel, which servers send for a picture that is gone",
        ),
    ];
    let mut expected: Vec<_> = expected.map(|(path, why)| (url(path), why.to_string())).into();
    let why = "no address of a picture (http:// or https://)";
    expected.push(("photos/a.jpg".into(), why.into()));
    assert_eq!(dead(dir), expected);

    assert_eq!((made.pictures, made.captions, made.fetched, made.dead), (4, 6, 5, 9));
    assert_eq!(
        made.to_string().replace(&dir.display().to_string(), "DIR"),
        "DIR/out: 4 pictures, 6 captions; fetched now: 5, dead links: 9 (DIR/out/dead.csv), rows left out: 1"
    );
    assert!(made.skipped[0].to_string().ends_with("p.csv, line 17: it has no text"));

    let counted = |paths: &[&str]| paths.iter().map(|path| server.count(path)).collect::<Vec<_>>();
    assert_eq!(
        counted(&["/plain", "/gone", "/removed", "/page", "/large", "/untitled"]),
        [1, 1, 1, 1, 1, 0]
    );
    assert_eq!(counted(&["/busy", "/busier", "/cut", "/always-cut", "/there"]), [2, 3, 2, 3, 1]);

    // The folder is a data set, and called again only what failed for the moment is asked for.
    let corpus = open(dir.join("out").to_str().unwrap(), Strictness::Strict).unwrap();
    assert!(corpus.pictures.iter().all(|picture| picture.load().is_ok()));
    let mut texts: Vec<_> = corpus.captions.iter().map(|caption| caption.text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(
        texts,
        [
            "a busy & late one",
            "a copy",
            "a plain one",
            "one that moved",
            "one that was cut",
            "the plain one again"
        ]
    );
    let before = server.counts();
    let again = fetch(&quick(), dir).unwrap();
    assert_eq!(again, Downloaded { fetched: 0, ..made });
    for (path, count) in server.counts() {
        let more = count - before[&path];
        let failed = ["/busier", "/always-cut"].contains(&path.as_str());
        assert_eq!(more, if failed { 3 } else { 0 }, "{path}");
    }
}

#[test]
fn a_server_that_is_too_slow() {
    let server = Server::start(|path, _| {
        thread::sleep(Duration::from_millis(700));
        ok(&png(path))
    });
    let dir = table(&[(server.url("/a"), "one")]);
    let download = Download { timeout: Duration::from_millis(150), attempts: 2, ..quick() };
    let made = fetch(&download, dir.path()).unwrap();
    assert_eq!((made.captions, made.dead), (0, 1));
    assert_eq!(dead(dir.path())[0].1, "timeout: global");
    assert_eq!(server.count("/a"), 2);
}

#[test]
fn servers_that_want_to_be_left_alone() {
    let server = Server::start(|path, count| {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
        let busy =
            |rest: &str| nothing("429 Too Many Requests", &format!("Retry-After: {rest}\r\n"));
        match (path, count) {
            ("/a-second", 1) => busy("1"),
            ("/until", 1) => busy(&date),
            ("/an-hour", _) => busy("3600"),
            _ => ok(&png(path)),
        }
    });
    // Seconds of a date are whole: two later is one later at least.
    for (path, least, requests) in [("/a-second", 1, 2), ("/until", 1, 2), ("/an-hour", 0, 1)] {
        let dir = table(&[(server.url(path), "one")]);
        let start = Instant::now();
        let made = fetch(&quick(), dir.path()).unwrap();
        assert_eq!(server.count(path), requests, "{path}");
        assert_eq!(made.fetched, requests - 1, "{path}");
        assert!(start.elapsed() >= Duration::from_secs(least), "{path}");
        assert!(start.elapsed() < Duration::from_secs(10), "{path}");
    }
}

#[test]
fn the_first_rows_only() {
    let server = Server::start(|path, _| ok(&png(path)));
    let rows: Vec<_> = (0..9).map(|i| (server.url(&format!("/{i}")), "one")).collect();
    let dir = table(&rows);
    let limited = |limit| Download { limit: Some(limit), ..quick() };
    assert_eq!(fetch(&limited(3), dir.path()).unwrap().fetched, 3);
    let made = fetch(&limited(5), dir.path()).unwrap();
    assert_eq!((made.fetched, made.captions, server.counts().len()), (2, 5, 5));
}

#[test]
fn a_picture_that_was_deleted_is_fetched_again() {
    let server = Server::start(|path, _| ok(&png(path)));
    let dir = table(&[(server.url("/a"), "one"), (server.url("/b"), "two")]);
    fetch(&quick(), dir.path()).unwrap();
    fs::remove_file(&pictures(dir.path())[0]).unwrap();
    assert_eq!(fetch(&quick(), dir.path()).unwrap().fetched, 1);
    assert_eq!(pictures(dir.path()).len(), 2);
}

#[test]
fn no_server_at_all() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let rows: Vec<_> = (0..150).map(|i| (format!("http://127.0.0.1:{port}/{i}"), "one")).collect();
    let dir = table(&rows);
    let error = fetch(&Download { attempts: 1, ..quick() }, dir.path()).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "100 addresses in a row could not be reached, the last because of http://127."
        ),
        "{error}"
    );
    assert!(
        error.ends_with("see to the connection and call it again: it goes on where it stopped")
    );
}

#[test]
fn one_process_at_a_time() {
    let dir = table(&[("http://127.0.0.1:1/a".into(), "one")]);
    fs::create_dir(dir.path().join("out")).unwrap();
    let lock = fs::File::create(dir.path().join("out/lock")).unwrap();
    lock.lock().unwrap();
    let error = fetch(&quick(), dir.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("out/lock: another process is writing here; wait until it has ended, or use another folder"),
        "{error}"
    );
}

/// The process of the next test: it fetches into the folder that its environment names.
#[test]
#[ignore = "started and killed by `killed_and_called_again`"]
fn process_that_is_killed() {
    let dir = env::var_os("XR_DOWNLOAD").expect("the folder");
    fetch(&quick(), dir.as_ref()).unwrap();
}

#[test]
fn killed_and_called_again() {
    const PICTURES: usize = 60;
    let server = Server::start(|path, _| {
        thread::sleep(Duration::from_millis(25));
        ok(&png(path))
    });
    let rows: Vec<_> = (0..PICTURES).map(|i| (server.url(&format!("/{i}")), "one")).collect();
    let dir = table(&rows);
    let mut process = Command::new(env::current_exe().unwrap())
        .args(["--exact", "process_that_is_killed", "--ignored"])
        .env("XR_DOWNLOAD", dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while server.counts().len() < PICTURES / 3 {
        assert!(process.try_wait().unwrap().is_none(), "it ended too early");
        thread::sleep(Duration::from_millis(1));
    }
    process.kill().unwrap();
    process.wait().unwrap();

    let journal = dir.path().join("out/fetched.jsonl");
    let noted = fs::read_to_string(&journal).unwrap();
    let came: Vec<&str> = noted.lines().collect();
    assert!(came.len() > 5 && came.len() < PICTURES, "{} came", came.len());
    // And killed in the middle of a line.
    fs::write(&journal, format!("{noted}{{\"url\":\"http://127")).unwrap();

    let before = server.counts();
    let made = fetch(&quick(), dir.path()).unwrap();
    assert_eq!((made.captions, made.fetched), (PICTURES, PICTURES - came.len()));
    assert_eq!(pictures(dir.path()).len(), PICTURES);
    for line in &came {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let path = line["url"].as_str().unwrap().replace(&server.url(""), "");
        assert_eq!(server.count(&path), before[&path], "{path} came and was asked for again");
    }
    // On four connections and waiting to be written when the process was killed.
    let twice = server.counts().values().filter(|count| **count > 1).count();
    assert!(twice <= 9, "{twice} were asked for twice");
}
