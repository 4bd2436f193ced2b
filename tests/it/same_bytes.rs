//! Same inputs, parameters and seed: the same bytes, whatever the threads, a crash, or where the root is.
#![expect(clippy::disallowed_methods, reason = "tests look at files as a user would")]

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::programs::{ends_with, parts, python, run};

#[test]
fn threads_and_a_kill_change_nothing_and_a_seed_changes_all() {
    let folder = tempfile::tempdir().unwrap();
    let root = |name: &str| folder.path().join(name);
    let uri = |name: &str| root(name).to_str().unwrap().to_owned();

    ends_with(run("small.yaml", &uri("one"), &[]).args(["--threads", "1"]), 0);
    ends_with(run("small.yaml", &uri("two"), &[]).args(["--threads", "2"]), 0);
    assert_eq!(parts(&root("one")), parts(&root("two")));

    killed_while_voting(&uri("killed"), &root("killed"));
    ends_with(&mut run("small.yaml", &uri("killed"), &[]), 0);
    assert_eq!(parts(&root("one")), parts(&root("killed")));

    ends_with(&mut run("small.yaml", &uri("seed"), &["seed=2"]), 0);
    let (one, other) = (parts(&root("one")), parts(&root("seed")));
    let shared: Vec<_> = one.keys().filter(|name| name.contains("/votes/") && other.contains_key(*name)).collect();
    assert!(shared.is_empty(), "votes of another seed are the same: {shared:?}");
}

/// Starts the workflow, waits until the pairs are there, and kills it and what it started with SIGKILL.
fn killed_while_voting(uri: &str, root: &Path) {
    use std::os::unix::process::CommandExt;
    let mut command = run("small.yaml", uri, &[]);
    let mut child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pairs = root.join("pair");
    while !has_manifest(&pairs) {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        std::thread::yield_now();
    }
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-9", "--", &group]).status().unwrap().success());
    assert!(!child.wait().unwrap().success());
}

fn has_manifest(stage: &Path) -> bool {
    std::fs::read_dir(stage).is_ok_and(|steps| steps.flatten().any(|step| step.path().join("manifest.json").exists()))
}

/// A real S3 server on this machine, ended when it is dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts one that keeps its objects in `folder`; `None`, said loudly, where Python has none.
    fn start(folder: &Path) -> Option<Self> {
        let python = python("ministack")?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(python.with_file_name("ministack"))
            .env("GATEWAY_PORT", port.to_string())
            .env("S3_PERSIST", "1")
            .env("S3_DATA_DIR", folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, port };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.child.try_wait().unwrap().is_none(), "the S3 server ended at once");
            std::thread::yield_now();
        }
        Some(server)
    }

    /// Tells `command` where the server is.
    fn known_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port))
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "us-east-1")
    }

    fn make_bucket(&self, name: &str) {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = format!("PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_bucket_holds_the_same_bytes_as_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(&folder.path().join("s3")) else { return };
    server.make_bucket("evoq");
    let local = folder.path().join("local");
    ends_with(&mut run("small.yaml", local.to_str().unwrap(), &[]), 0);

    let cache = folder.path().join("cache");
    let mut remote = run("small.yaml", "s3://evoq/root", &[]);
    ends_with(server.known_to(&mut remote).env("EVOQ_CACHE", &cache), 0);
    // The server keeps each object as a file of its own below the bucket's folder.
    let objects = parts(&folder.path().join("s3"));
    let mut compared = 0;
    for (name, digest) in parts(&local) {
        let object = objects.iter().find(|(object, _)| object.ends_with(&format!("root/{name}")));
        assert_eq!(object.map(|it| it.1), Some(&digest), "{name}");
        compared += 1;
    }
    assert!(compared > 20, "{compared} files compared");
}
