//! Real S3 servers on this machine, and a Python that has what a test needs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The key with which all servers are used, and its secret.
pub const KEY: (&str, &str) = ("test", "test-secret");

/// The bucket that each of them has.
pub const BUCKET: &str = "evoq";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Honours create-only puts; keeps its objects when it is killed.
    MiniStack,
    /// Honours create-only puts; keeps its objects in memory.
    Moto,
    /// Looks first and writes then: loses races. Checks signatures.
    S3sFs,
    /// Ignores create-only puts.
    Rclone,
}

/// A server with an empty bucket, ended when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    kind: Kind,
    folder: PathBuf,
    port: u16,
}

impl Server {
    /// Starts one that keeps what it has to keep in `folder`; `None`, said loudly, where it is not installed.
    pub fn start(kind: Kind, folder: &Path) -> Option<Self> {
        let child = started(kind, folder, free_port())?;
        let (child, port) = child;
        let server = Self { child, kind, folder: folder.to_path_buf(), port };
        match kind {
            Kind::MiniStack | Kind::Moto => drop(server.ask("PUT", &format!("/{BUCKET}"))),
            // Their buckets are folders.
            Kind::S3sFs | Kind::Rclone => std::fs::create_dir_all(folder.join(BUCKET)).unwrap(),
        }
        Some(server)
    }

    /// The port at which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it at once, as the end of its machine would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        self.child = started(self.kind, &self.folder, self.port).unwrap().0;
    }

    /// The body of the answer to `method` on `path`, which is not signed.
    pub fn ask(&self, method: &str, path: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let headers = "Host: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close";
        write!(stream, "{method} {path} HTTP/1.1\r\n{headers}\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        assert!(head.starts_with("http/1.1 200") && !head.contains("chunked"), "{method} {path}: {head}");
        answer.split_off(end + 4)
    }

    /// Tells `command` where the server is, and that nothing else is to be used.
    pub fn known_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        known(command, self.port)
    }

    /// The names of the objects below `prefix` of the bucket, which ends in a slash or is empty. All servers but those whose buckets
    /// are folders list them without a signature.
    pub fn objects(&self, prefix: &str) -> Vec<String> {
        let list = self.ask("GET", &format!("/{BUCKET}?list-type=2&prefix={prefix}"));
        let list = String::from_utf8_lossy(&list);
        assert!(list.contains("<IsTruncated>false"), "{list}");
        let keys = list.split("<Key>").skip(1).filter_map(|it| it.split("</Key>").next()?.strip_prefix(prefix));
        keys.map(str::to_owned).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tells `command` that the S3 server at `port` is to be used, and nothing else.
pub fn known(command: &mut Command, port: u16) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
        .env("AWS_ACCESS_KEY_ID", KEY.0)
        .env("AWS_SECRET_ACCESS_KEY", KEY.1)
        .env("AWS_REGION", "us-east-1")
}

/// A port that nobody uses.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn started(kind: Kind, folder: &Path, port: u16) -> Option<(Child, u16)> {
    let mut command = command(kind, folder, port)?;
    let mut child = command.env("TMPDIR", folder).stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let is_up = |line: &String| {
        ["Running on http", "Starting s3 server", "server is running at"].iter().any(|said| line.contains(said))
    };
    let said: Vec<String> = lines.by_ref().take_while(|line| !is_up(line)).collect();
    assert!(child.try_wait().unwrap().is_none(), "{kind:?} ended at once: {said:?}");
    // What else it says is read, so that it never waits for a reader.
    std::thread::spawn(move || lines.for_each(drop));
    Some((child, port))
}

fn command(kind: Kind, folder: &Path, port: u16) -> Option<Command> {
    let (key, secret) = KEY;
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let address = format!("127.0.0.1:{port}");
    let words: Vec<String> = match kind {
        Kind::MiniStack => vec![text(&python("ministack")?), "-m".into(), "ministack".into()],
        Kind::Moto => {
            let main = "from moto.server import main; main()".to_owned();
            vec![text(&python("moto.server")?), "-c".into(), main, format!("-p{port}")]
        }
        Kind::S3sFs => {
            let program = s3s_fs()?;
            let flags = ["--host", "127.0.0.1", "--access-key", key, "--secret-key", secret, "--port"];
            let flags = flags.iter().map(|&flag| flag.to_owned());
            std::iter::once(text(&program)).chain(flags).chain([port.to_string(), text(folder)]).collect()
        }
        Kind::Rclone => {
            let program = rclone()?;
            let flags =
                ["serve", "s3", "--addr", &address, "--auth-key", &format!("{key},{secret}")].map(str::to_owned);
            std::iter::once(text(&program)).chain(flags).chain([text(folder)]).collect()
        }
    };
    // What it says comes by one pipe.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>&1", "sh"]).args(words);
    command.env("GATEWAY_PORT", port.to_string()).env("S3_PERSIST", "1").env("S3_DATA_DIR", folder);
    command.env("RUST_LOG", "info").env("PYTHONUNBUFFERED", "1");
    Some(command)
}

/// The Python for the tests that need one: `EVOQ_TEST_PYTHON`, or `python3`, where it has `module`. `None` is said loudly.
pub fn python(module: &str) -> Option<PathBuf> {
    let python = std::env::var_os("EVOQ_TEST_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let find = format!("import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)");
    let has = Command::new(&python).args(["-c", &find]).output();
    if has.is_ok_and(|it| it.status.success()) {
        return Some(python);
    }
    eprintln!(
        "SKIPPED: {} cannot `import {module}`: pip install -r tests/requirements.txt, and name the Python that has it by \
         EVOQ_TEST_PYTHON",
        python.display()
    );
    None
}

/// The server that ignores create-only puts: beside `EVOQ_TEST_PYTHON`, where pip puts it, or on the PATH. `None` is said loudly.
fn rclone() -> Option<PathBuf> {
    let beside = std::env::var_os("EVOQ_TEST_PYTHON").map(|python| PathBuf::from(python).with_file_name("rclone"));
    let places = beside.into_iter().chain([PathBuf::from("rclone")]);
    let runs = |program: &PathBuf| Command::new(program).arg("version").output().is_ok();
    let program = places.into_iter().find(runs);
    if program.is_none() {
        eprintln!("SKIPPED: there is no rclone: pip install -r tests/requirements.txt");
    }
    program
}

/// The server that loses races: `EVOQ_TEST_S3S_FS`, or `s3s-fs` on the PATH. `None` is said loudly.
fn s3s_fs() -> Option<PathBuf> {
    let program = std::env::var_os("EVOQ_TEST_S3S_FS").map_or_else(|| PathBuf::from("s3s-fs"), PathBuf::from);
    if Command::new(&program).arg("--version").output().is_ok() {
        return Some(program);
    }
    eprintln!(
        "SKIPPED: {} cannot be run: cargo install s3s-fs --version 0.14.1 --features binary --locked, and name it by \
         EVOQ_TEST_S3S_FS",
        program.display()
    );
    None
}
