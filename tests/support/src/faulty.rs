//! A small server that answers as it is told, or does not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// What the server does with a request.
pub enum Act {
    /// Answers with a status, headers and a text.
    Answer(u16, Vec<(&'static str, &'static str)>, String),
    /// Says nothing until the client goes.
    Hang,
    /// Closes the connection.
    Drop,
    /// Closes the connection in the middle of its answer.
    CutShort,
}

/// What a server was asked, in the order in which it came.
#[derive(Default)]
struct Seen {
    bodies: Mutex<Vec<Value>>,
    keys: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

/// The server; it ends when it is dropped.
pub struct Faulty {
    /// Where it listens, with `/v1`.
    pub url: String,
    address: SocketAddr,
    seen: Arc<Seen>,
}

impl Faulty {
    /// A server that does as `act` says, which is given how many requests there were before, and the request.
    pub fn new(act: impl Fn(usize, &Value) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, act) = (Arc::new(Seen::default()), Arc::new(act));
        let it = Self { url: format!("http://{address}/v1"), address, seen: seen.clone() };
        thread::spawn(move || {
            for stream in listener.incoming() {
                if seen.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (seen, act) = (seen.clone(), act.clone());
                // A client may close its end at any time.
                thread::spawn(move || serve(&stream?, &seen, &*act));
            }
        });
        it
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Value> {
        self.seen.bodies.lock().unwrap().clone()
    }

    /// The keys that came with them.
    pub fn keys(&self) -> Vec<String> {
        self.seen.keys.lock().unwrap().clone()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.seen.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(self.address));
    }
}

/// Serves one connection.
fn serve(stream: &TcpStream, seen: &Seen, act: &dyn Fn(usize, &Value) -> Act) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut to = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(": ") else { continue };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "authorization" => seen.keys.lock().unwrap().push(value.to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body: Value = serde_json::from_slice(&body).unwrap();
        let number = {
            let mut bodies = seen.bodies.lock().unwrap();
            bodies.push(body.clone());
            bodies.len() - 1
        };
        match act(number, &body) {
            Act::Answer(status, headers, text) => {
                write!(to, "HTTP/1.1 {status} Said\r\n")?;
                for (name, value) in headers {
                    write!(to, "{name}: {value}\r\n")?;
                }
                write!(to, "content-length: {}\r\n\r\n{text}", text.len())?;
            }
            Act::Hang => return reader.read_to_end(&mut Vec::new()).map(drop),
            Act::Drop => return Ok(()),
            Act::CutShort => {
                return write!(to, "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{{\"choices\": [");
            }
        }
    }
}

/// An answer with one reply.
pub fn reply(text: &str) -> Act {
    replies([text.to_owned()])
}

/// An answer with replies, with log-probabilities.
pub fn replies(texts: impl IntoIterator<Item = String>) -> Act {
    let choice = |(index, text): (usize, String)| {
        json!({
            "index": index, "message": { "role": "assistant", "content": text }, "finish_reason": "stop",
            "logprobs": { "content": [{ "token": text, "logprob": -0.5 }] },
        })
    };
    let choices: Vec<Value> = texts.into_iter().enumerate().map(choice).collect();
    Act::Answer(200, vec![], json!({ "choices": choices }).to_string())
}

/// An answer with one reply, without log-probabilities.
pub fn untold(text: &str) -> Act {
    let choice = json!({ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" });
    Act::Answer(200, vec![], json!({ "choices": [choice], "usage": { "completion_tokens": 3 } }).to_string())
}
