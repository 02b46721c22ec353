//! Requests and answers against a server in this process.

use super::super::mock::{Mock, Reply, reply};
use super::*;

const BOUNDS: Bounds = Bounds { deadline: Duration::from_secs(5), body: 1000 };

async fn get(mock: &Mock) -> Result<Answer, HttpError> {
    let url: Url = mock.url.parse().unwrap();
    let get = Ask { method: Method::GET, url: &url, authorization: None, headers: &[], body: None };
    ask(&mock.connector(), &get, BOUNDS).await
}

#[tokio::test]
async fn a_request_is_written_and_its_answer_taken_with_what_it_says_of_time() {
    let fields = "retry-after: 7\r\ncache-control: public, max-age=60\r\n";
    let mock = Mock::new(vec![reply("202 Accepted", fields, "yes")]);
    let url: Url = format!("{}/base/", mock.url).parse().unwrap();
    let url = url.join("/calls/c%201?x=y");
    let secret = Secret::from("Bearer s3cret");
    let post = Ask {
        method: Method::POST,
        url: &url,
        authorization: Some(&secret),
        headers: &[("x-name", "value")],
        body: Some(("application/json", r#"{"a":1}"#.into())),
    };
    let answer = ask(&mock.connector(), &post, BOUNDS).await.unwrap();
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let (retry_after, max_age) = (seconds(7), seconds(60));
    assert_eq!(answer, Answer { status: 202, retry_after, max_age, body: "yes".into() });
    let asked = mock.asked();
    let (head, body) = asked[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /base/calls/c%201?x=y HTTP/1.1\r\n"), "{head}");
    let host = mock.url.strip_prefix("http://").unwrap();
    for field in [
        "x-name: value".to_owned(),
        format!("host: {host}"),
        "authorization: Bearer s3cret".into(),
        "content-type: application/json".into(),
        "content-length: 7".into(),
        concat!("user-agent: ringback/", env!("CARGO_PKG_VERSION")).into(),
    ] {
        assert!(head.lines().any(|line| line == field), "{field} in {head}");
    }
    assert_eq!(body, r#"{"a":1}"#);
    assert!(!format!("{post:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let mock = Mock::new(vec![reply("302 Found", "location: http://169.254.169.254/\r\n", "")]);
    assert_eq!(get(&mock).await.unwrap().status, 302);
    assert_eq!(mock.asked().len(), 1);
}

#[tokio::test]
async fn answers_that_are_too_long_or_none_are_errors() {
    let long = "x".repeat(1001);
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let mock = Mock::new(vec![
        reply("200 OK", "", &long),
        Reply::Octets(format!("{chunked}3e9\r\n{long}\r\n0\r\n\r\n")),
        Reply::Octets("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".into()),
        Reply::Octets("SSH-2.0-OpenSSH_9.2\r\n".into()),
        Reply::Octets(String::new()),
        reply("200 OK", "", &long[1..]),
    ]);
    assert_eq!(get(&mock).await, Err(HttpError::TooLong(1000)));
    assert_eq!(get(&mock).await, Err(HttpError::TooLong(1000)));
    for _ in 0..3 {
        let error = get(&mock).await.unwrap_err();
        assert!(matches!(error, HttpError::Broken(_)), "{error:?}");
    }
    assert_eq!(get(&mock).await.unwrap().body.len(), 1000);
}

#[tokio::test]
async fn an_answer_without_a_length_ends_with_the_connection() {
    let mock = Mock::new(vec![Reply::Octets("HTTP/1.0 200 OK\r\n\r\nall of it".into())]);
    assert_eq!(get(&mock).await.unwrap().body, "all of it");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up() {
    let mock = Mock::new(vec![Reply::Silence]);
    assert_eq!(get(&mock).await, Err(HttpError::Deadline(BOUNDS.deadline)));
}

#[test]
fn urls_are_https_or_of_this_machine() {
    let read = |text: &str| text.parse::<Url>().map(|url| url.to_string());
    assert_eq!(read("https://a.example"), Ok("https://a.example/".into()));
    assert_eq!(read("https://a.example:8443/x/y?key=1"), Ok("https://a.example:8443/x/y".into()));
    assert_eq!(read("http://localhost:80/x"), Ok("http://localhost/x".into()));
    assert_eq!(read("http://[::1]:8080"), Ok("http://[::1]:8080/".into()));
    for (wrong, why) in [
        ("ftp://a.example", "https://"),
        ("a.example", "https://"),
        ("http://a.example/keys", "over https://"),
        ("https://", "no host"),
        ("https://user:pass@a.example/", "is no host"),
        ("https://a.example/a b", "a path that is none"),
    ] {
        let error = read(wrong).unwrap_err();
        assert!(error.contains(why), "{wrong}: {error}");
    }
}

#[test]
fn how_long_an_answer_may_be_kept_is_read_from_its_directives() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(max_age("public, Max-Age=\"3600\", must-revalidate"), seconds(3600));
    assert_eq!(max_age("max-age=60, no-cache"), seconds(0));
    assert_eq!(max_age("no-store"), seconds(0));
    assert_eq!(max_age("private"), None);
    assert_eq!(max_age("max-age=soon"), None);
    assert_eq!(max_age("s-maxage=5"), None);
}
