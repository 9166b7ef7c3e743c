//! The smallest HTTP that the tests need, of our own, so that the server is not judged by its own client.

use serde_json::Value;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// Debug builds on a busy machine take seconds for 10,000 rows; longer than this is a hang.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.text()))
    }
}

/// `url` as `http://127.0.0.1:port`.
pub fn get(url: &str, path: &str) -> io::Result<Answer> {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut reader = BufReader::new(stream);
    let (first, headers) = read_head(&mut reader)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status in {first:?}")))?;
    let body = read_body(&mut reader, &headers)?;
    Ok(Answer { status, body })
}

pub type Headers = Vec<(String, String)>;

/// The first line, and the headers with lower-case names.
pub fn read_head(reader: &mut impl BufRead) -> io::Result<(String, Headers)> {
    let mut line = || -> io::Result<String> {
        let mut text = String::new();
        if reader.read_line(&mut text)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(text.trim_end().to_owned())
    };
    let first = line()?;
    let mut headers = Vec::new();
    loop {
        let text = line()?;
        if text.is_empty() {
            return Ok((first, headers));
        }
        if let Some((name, value)) = text.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

pub fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// As long as its `content-length`, or to the end of the connection.
pub fn read_body(reader: &mut impl BufRead, headers: &Headers) -> io::Result<Vec<u8>> {
    assert!(header(headers, "transfer-encoding").is_none(), "chunked bodies are not expected here");
    let mut body = Vec::new();
    match header(headers, "content-length") {
        Some(length) => {
            let length: u64 = length.parse().map_err(io::Error::other)?;
            if reader.take(length).read_to_end(&mut body)? < length as usize {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        None => drop(reader.read_to_end(&mut body)?),
    }
    Ok(body)
}
