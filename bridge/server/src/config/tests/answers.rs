//! Where and how calls that are asked for are answered.

use super::*;

#[test]
fn answers_are_given_below_the_listener_unless_told_where() {
    let basic = "auth = { kind = \"basic\", user = \"u\", password = \"env:TOKEN\" }";
    let config = parse(&asked("", basic)).unwrap();
    let point = config.listeners[0].endpoint.answer.clone().unwrap();
    assert_eq!((point.path.as_str(), point.challenges), ("/a/answer", true));
    assert_eq!(point.public_url, "https://b.example:8443/a/answer");
    let summary = config.summary();
    assert!(
        summary.contains("answers calls at https://b.example:8443/a/answer, auth basic"),
        "{summary}"
    );
    let told = "path = \"/ask\", public_url = \"http://other.example/x/ask\", parameters = { b = \"2\", a = \"1\" }, auth = { kind = \"bearer\", token = \"env:TOKEN\" }";
    let config = parse(&asked("", told)).unwrap();
    let ListenerConfig { endpoint, answer, .. } = &config.listeners[0];
    let (point, answer) = endpoint.answer.as_ref().zip(answer.as_ref()).unwrap();
    assert_eq!((point.path.as_str(), point.challenges), ("/ask", false));
    assert_eq!(point.public_url, "http://other.example/x/ask");
    let parameters = [("a", "1"), ("b", "2")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!((answer.parameters.as_slice(), answer.auth.kind()), (&parameters[..], "bearer"));
}

#[test]
fn answers_that_could_not_be_right_are_refused_with_their_place() {
    let header = "auth = { kind = \"header\", header = \"x-token\", token = \"env:TOKEN\" }";
    let path = "auth = { kind = \"path\", token = \"env:TOKEN\" }";
    let genesys =
        "auth = { kind = \"genesys-signature\", api_key = \"env:TOKEN\", secret = \"env:TOKEN\" }";
    let none = "auth = { kind = \"none\" }";
    for (text, what) in [
        (listener("answer = {}"), "dial `public_url`, which is missing"),
        (asked("", "").replace("twilio", "asterisk"), "does not ask over HTTP"),
        (asked(header, none), "cannot carry a credential of the kind header; it can: path"),
        (asked(path, ""), "`answer.auth` says how"),
        (asked("", path), "`answer.auth` says how"),
        (asked("", genesys), "`answer.auth` says how"),
        (asked("", "path = \"/a\""), "need a path of their own"),
        (
            asked("", "auth = { kind = \"jwt\", jwks_url = \"https://a.example/keys\" }"),
            "keys are fetched for streams only",
        ),
        (asked("", "path = \"/metrics\""), "need a path of their own"),
        (asked("", "path = \"a?b\""), "a path begins with `/`"),
        (asked("", "public_url = \"wss://b.example/a\""), "expected the URL the provider asks"),
        (asked("", "parameters = { tenant = \"\" }"), "is empty, longer than"),
        (asked("options = { one_way = true }", ""), "speak and listen"),
        (asked("", "unknown = 1"), "unknown"),
    ] {
        let problem = parse(&text).expect_err(what).to_string();
        assert!(problem.contains(what) && problem.contains("f.toml:"), "{what}:\n{problem}");
    }
    let second = "[[listener]]\nname = \"b\"\npath = \"/a/answer\"\nprovider = \"twilio\"";
    let problem = parse(&format!("{}{second}", asked("", ""))).unwrap_err().to_string();
    assert!(problem.contains("is the path of listener \"a\" already"), "{problem}");
}

#[test]
fn strangers_beyond_this_machine_are_not_answered_unless_that_is_said() {
    let beyond = "[server]\nbind = \"0.0.0.0:1\"\n";
    let path = "auth = { kind = \"path\", token = \"env:TOKEN\" }";
    let open = "auth = { kind = \"none\" }";
    let problem_of = |keys: &str| {
        parse(&format!("{beyond}{}", asked(keys, open))).err().map(|error| error.to_string())
    };
    let problem = problem_of(&format!("insecure = true\n{path}")).unwrap();
    assert!(problem.contains("the stream's credential stands in it"), "{problem}");
    let problem = problem_of(open).unwrap();
    assert!(problem.contains("anybody could ask for the answer"), "{problem}");
    assert_eq!(problem_of(&format!("allow = [\"192.0.2.0/24\"]\n{path}")), None);
    assert_eq!(problem_of(&format!("insecure = true\n{open}")), None);
    assert!(parse(&asked(open, open)).is_ok(), "on this machine");
    let problem = parse(&asked(path, open)).unwrap_err().to_string();
    assert!(problem.contains("the stream's credential stands in it"), "not even there: {problem}");
}
