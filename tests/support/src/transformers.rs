//! A server that serves for real: `transformers serve`.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// `transformers serve` with one checkpoint; it ends when it is dropped.
pub struct Transformers {
    /// Where it listens.
    pub url: String,
    child: Child,
}

impl Transformers {
    /// The server, once it is ready; `None` without `EVOQ_TEST_TRANSFORMERS_PYTHON`, which is said loudly.
    pub fn serving(checkpoint: &str) -> Option<Self> {
        let Some(python) = std::env::var_os("EVOQ_TEST_TRANSFORMERS_PYTHON") else {
            eprintln!(
                "SKIPPED: pip install torch torchvision pillow 'transformers[serving]==5.23.0', and name the Python that has them \
                 by EVOQ_TEST_TRANSFORMERS_PYTHON"
            );
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let main = "import sys; from transformers.cli.transformers import main; sys.exit(main())";
        let fixed =
            ["serve", checkpoint, "--host", "127.0.0.1", "--device", "cpu", "--dtype", "float32", "--port", &port];
        let mut child = Command::new(python)
            .args(["-c", main])
            .args(fixed)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let is_ready =
            lines.by_ref().inspect(|line| said.push(line.clone())).any(|line| line.contains("Uvicorn running"));
        assert!(is_ready, "transformers serve did not start: {}", said.join("\n"));
        // What it says from now on must go somewhere, or it would wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { url: format!("http://127.0.0.1:{port}"), child })
    }
}

impl Drop for Transformers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
