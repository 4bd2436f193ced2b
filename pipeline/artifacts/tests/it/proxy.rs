//! A bad line to a good server: answers 503, or loses requests and answers. And a server that has one answer for all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is answered.
    Answered,
    /// The answer is that the server is busy; the request does not reach it.
    Busy,
    /// The connection ends before the request reaches the server.
    Lost,
    /// The connection ends after the server has done what was asked.
    AnswerLost,
}

/// A request on its way.
pub struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    /// Whether it is a create-only put.
    pub fn creates(&self) -> bool {
        self.head.to_lowercase().contains("\r\nif-none-match:")
    }

    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
            // Each request has a connection of its own.
            if !name.eq_ignore_ascii_case("connection") {
                head.push_str(&line);
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self { head: format!("{head}Connection: close\r\n"), body })
    }

    fn answer_of(&self, port: u16) -> std::io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(("127.0.0.1", port))?;
        write!(server, "{}\r\n", self.head)?;
        server.write_all(&self.body)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// Listens at a port of its own, which it gives, and answers each request by `answer`: with bytes, or with the connection's end.
fn serve(answer: impl Fn(&Request) -> Option<Vec<u8>> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let Some(request) = Request::read(&stream) else { return };
                if let Some(bytes) = answer(&request) {
                    // Who has gone away misses the answer.
                    let _ = (&stream).write_all(&bytes);
                }
            });
        }
    });
    port
}

/// A server that answers everything with `status` and `body`; gives its port.
pub fn answers(status: &'static str, body: &str) -> u16 {
    let answer = answer(status, body);
    serve(move |_| Some(answer.clone()))
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

/// The text with which S3 refuses something.
pub fn refusal(code: &str, message: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
}

/// A line to the server at `port`; `fate` decides by a request and its number. Gives its own port, and how many requests had
/// another fate than to be answered.
pub fn line_to(port: u16, fate: impl Fn(&Request, usize) -> Fate + Send + Sync + 'static) -> (u16, Arc<AtomicUsize>) {
    let (requests, troubled) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let count = troubled.clone();
    let own = serve(move |request| {
        let fate = fate(request, requests.fetch_add(1, Ordering::Relaxed));
        count.fetch_add(usize::from(fate != Fate::Answered), Ordering::Relaxed);
        match fate {
            Fate::Lost => None,
            Fate::Busy => {
                Some(answer("503 Service Unavailable", &refusal("SlowDown", "Please reduce your request rate.")))
            }
            Fate::Answered => request.answer_of(port).ok(),
            Fate::AnswerLost => {
                let _ = request.answer_of(port);
                None
            }
        }
    });
    (own, troubled)
}
