//! A server on a plain socket that says exactly what a test wants, and keeps what it heard.

use crate::xml::Charset;
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

/// What to do with the next request.
pub(super) enum Act {
    /// Answer with this text, in GBK, and status 200.
    Text(String),
    /// The same; when the test says so, close the connection.
    Last(String, mpsc::Receiver<()>),
    /// Write these bytes.
    Raw(Vec<u8>),
    /// Close the connection without an answer.
    Close,
}

impl Act {
    /// An answer with a return code and fields.
    pub(super) fn code(code: &str, data: &str) -> Self {
        Self::Text(format!(
            "<?xml version=\"1.0\" encoding=\"gbk\"?><business><body><returncode>{code}\
             </returncode><returnmsg>示例</returnmsg><returndata>{data}</returndata></body>\
             </business>"
        ))
    }

    fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => {
                let body = Charset::Gbk.encode(&text);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                Some([head.into_bytes(), body].concat())
            }
            Self::Raw(bytes) => Some(bytes),
            Self::Close | Self::Last(..) => None,
        }
    }
}

/// A request as it was heard.
pub(super) struct Heard {
    /// Number of its connection, from 0.
    pub(super) connection: usize,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

/// The server; what it heard comes in order.
pub(super) struct Canned {
    pub(super) url: String,
    pub(super) heard: mpsc::Receiver<Heard>,
    /// Numbers of the connections that it has closed, in order.
    pub(super) closed: mpsc::Receiver<usize>,
}

impl Canned {
    pub(super) fn new(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, heard) = mpsc::sync_channel(acts.len().max(1));
        let (tell_closed, closed) = mpsc::sync_channel(acts.len().max(1));
        thread::spawn(move || {
            let mut acts = acts.into_iter();
            for (nth, stream) in listener.incoming().enumerate() {
                serve(stream.unwrap(), nth, &mut acts, &tell);
                if tell_closed.send(nth).is_err() {
                    return;
                }
                if acts.len() == 0 {
                    return;
                }
            }
        });
        Self { url, heard, closed }
    }
}

/// Serves one connection until it closes, an act closes it, or no act is left.
fn serve(
    stream: TcpStream,
    connection: usize,
    acts: &mut impl ExactSizeIterator<Item = Act>,
    tell: &mpsc::SyncSender<Heard>,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while acts.len() > 0 {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match reader.read_line(&mut head) {
                Ok(read) if read > 0 => {}
                _ => return,
            }
        }
        let lower = head.to_ascii_lowercase();
        let len = lower.split("content-length: ").nth(1).unwrap();
        let len = len.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; len];
        reader.read_exact(&mut body).unwrap();
        drop(tell.send(Heard { connection, head, body }));
        let (act, close) = match acts.next().unwrap() {
            Act::Last(text, close) => (Act::Text(text), Some(close)),
            act => (act, None),
        };
        match act.bytes() {
            Some(bytes) => drop(writer.write_all(&bytes)),
            None => return,
        }
        if let Some(close) = close {
            close.recv().unwrap();
            return;
        }
    }
}
