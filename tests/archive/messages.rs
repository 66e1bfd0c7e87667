//! Events of files sent to web servers and commands: accepted, refused, redirected, hanging.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::common::Place;
use support::live::free_port;

use crate::{RULES, boxed, kept, place};

/// A request as it arrived.
#[derive(Debug, Clone)]
struct Request {
    line: String,
    head: String,
    body: String,
}

/// A web server that answers each request by what `answer` makes of it: a status line and headers, or nothing at all.
struct Sink {
    port: u16,
    got: Arc<Mutex<Vec<Request>>>,
}

impl Sink {
    fn start(answer: impl Fn(usize, &Request) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, got) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let (answer, list) = (Arc::new(answer), Arc::clone(&got));
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (answer, list) = (Arc::clone(&answer), Arc::clone(&list));
                std::thread::spawn(move || serve(connection, &*answer, &list));
            }
        });
        Self { port, got }
    }

    fn got(&self) -> Vec<Request> {
        self.got.lock().unwrap().clone()
    }
}

fn serve(connection: TcpStream, answer: &dyn Fn(usize, &Request) -> Option<String>, got: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(&connection);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap_or_default();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or_default() > 2 {}
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap_or_default();
    let request = Request { line: line.trim().to_owned(), head, body: String::from_utf8(body).unwrap() };
    let number = {
        let mut got = got.lock().unwrap();
        got.push(request.clone());
        got.len() - 1
    };
    match answer(number, &request) {
        Some(answer) => {
            let _ = (&connection).write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").as_bytes());
        }
        // Until the client has had enough.
        None => drop((&connection).read(&mut [0; 1])),
    }
}

fn lines(place: &Place) -> Vec<String> {
    fs::read_to_string(place.path("e.jsonl")).unwrap().lines().map(ToOwned::to_owned).collect()
}

/// The arguments of a run over a clip with one event.
fn run(place: &Place, more: &str) -> String {
    boxed(place, "a.mp4", 3);
    format!("run a.mp4 -o none -o events:e.jsonl --overwrite {RULES} {more}")
}

#[test]
fn requests_are_signed_and_the_check_of_the_documents_agrees() {
    let place = place();
    let sink = Sink::start(|_, _| Some("204 No Content".to_owned()));
    fs::write(place.path("secret"), "hunter2\n").unwrap();
    let port = sink.port;
    let arguments =
        run(&place, &format!("-o webhook:http://127.0.0.1:{port}/hooks/x --set webhook.secret_file=secret"));
    let output =
        place.program().args(arguments.split_whitespace()).args(["--webhook-header", "X-Camera: front"]).output();
    assert!(output.unwrap().status.success());
    let got = sink.got();
    assert_eq!(got.iter().map(|request| request.body.clone()).collect::<Vec<_>>(), lines(&place));
    let head = got[0].head.to_ascii_lowercase();
    assert_eq!(got[0].line, "POST /hooks/x HTTP/1.1");
    for header in
        ["content-type: application/json", "x-camera: front", "x-oodstream-event: start", "x-oodstream-delivery: "]
    {
        assert!(head.contains(header), "no {header} in {head}");
    }
    let signature = head.lines().find_map(|line| line.strip_prefix("x-hub-signature-256: ")).unwrap();

    let Some(python) = kept::python("hmac") else { return };
    let document = include_str!("../../docs/messages.md");
    let script = document.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let check = |secret: &str| {
        let call =
            format!("{script}\nimport sys\nprint(is_genuine(sys.argv[1].encode(), sys.argv[2].encode(), sys.argv[3]))");
        let output = Command::new(&python).args(["-c", &call, secret, &got[0].body, signature]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!((check("hunter2").trim(), check("hunter3").trim()), ("True", "False"));
}

#[test]
fn a_receiver_that_fails_gets_each_message_again_and_is_logged_once() {
    let place = place();
    let sink =
        Sink::start(|number, _| Some(if number < 3 { "500 Internal Server Error" } else { "200 OK" }.to_owned()));
    let ended = place.run(&run(&place, &format!("-o webhook:http://127.0.0.1:{}/ --json -", sink.port))).code(0);
    let accepted: Vec<String> = sink.got().into_iter().skip(3).map(|request| request.body).collect();
    assert_eq!(accepted, lines(&place));
    assert_eq!(ended.stderr.matches("500 Internal").count(), 1, "{}", ended.stderr);
    let messages = &ended.json()["messages"][0];
    assert_eq!((&messages["failures"], &messages["dropped"]), (&3.into(), &0.into()), "{messages}");
    // The same delivery at each attempt.
    let id = |request: &Request| {
        request.head.lines().find(|line| line.to_lowercase().contains("delivery")).unwrap().to_owned()
    };
    let got = sink.got();
    assert!(got[..4].iter().all(|request| id(request) == id(&got[0])) && id(&got[4]) != id(&got[0]));
}

#[test]
fn redirections_stay_with_the_origin() {
    let place = place();
    let sink = Sink::start(|_, request| {
        Some(
            if request.line.contains("/old") { "307 Temporary Redirect\r\nlocation: /new" } else { "200 OK" }
                .to_owned(),
        )
    });
    place.run(&run(&place, &format!("-o webhook:http://127.0.0.1:{}/old", sink.port))).code(0);
    let moved: Vec<_> = sink.got().into_iter().filter(|request| request.line.contains("/new")).collect();
    assert_eq!(moved.iter().map(|request| request.body.clone()).collect::<Vec<_>>(), lines(&place));
    assert!(moved.iter().all(|request| request.line.starts_with("POST")));

    let other = Sink::start(|_, _| Some("200 OK".to_owned()));
    let to = other.port;
    let sink = Sink::start(move |_, _| Some(format!("307 Temporary Redirect\r\nlocation: http://127.0.0.1:{to}/")));
    let arguments = format!("-o webhook:http://127.0.0.1:{} --set webhook.give_up_s=0.1", sink.port);
    place.run(&run(&place, &arguments)).code(1).says(&["redirected to http://127.0.0.1", "refused", "not delivered"]);
    assert!(other.got().is_empty());
}

#[test]
fn receivers_that_hang_refuse_or_are_not_there_cost_a_bounded_time() {
    let place = place();
    let sink = Sink::start(|_, _| None);
    let address = format!("-o webhook:http://127.0.0.1:{}/", sink.port);
    let limits = "--set webhook.timeout_s=0.2 --set webhook.give_up_s=0.1";
    let start = Instant::now();
    let hung = place.run(&run(&place, &format!("{address} {limits}"))).code(1).says(&["no answer within 0.2 s"]);
    assert_eq!(hung.stderr.matches("no answer").count(), 2, "once in the log, once in the end: {}", hung.stderr);
    // Messages times limits, and not more than the wait at the end of a run.
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let sink = Sink::start(|_, _| Some("403 Forbidden".to_owned()));
    let address = format!("-o webhook:http://127.0.0.1:{}/", sink.port);
    place.run(&run(&place, &address)).code(1).says(&["403 Forbidden", "dropped"]);
    assert_eq!(sink.got().len(), lines(&place).len(), "no second attempt");
    let address = format!("-o webhook:http://127.0.0.1:{}/ {limits}", free_port());
    place.run(&run(&place, &address)).code(1).says(&["not reachable"]);
}

/// A script in the folder.
fn script(place: &Place, name: &str, text: &str) {
    fs::write(place.path(name), format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn commands_get_each_event_and_their_failures_are_logged_once() {
    let place = place();
    script(&place, "hook", "cat >> got.jsonl; echo \"$OODSTREAM_EVENT$OODSTREAM_WEBHOOK_SECRET\" >> kinds");
    let arguments = run(&place, "-o exec:./hook");
    let output = place.program().args(arguments.split_whitespace()).env("OODSTREAM_WEBHOOK_SECRET", "hidden").status();
    assert!(output.unwrap().success());
    assert_eq!(fs::read_to_string(place.path("got.jsonl")).unwrap(), lines(&place).join("\n") + "\n");
    assert!(fs::read_to_string(place.path("kinds")).unwrap().starts_with("start\n"));

    script(&place, "fails", "exit 7");
    let failed = place.run(&run(&place, "-o exec:./fails")).code(1).says(&["./fails ended with exit status: 7"]);
    assert_eq!(failed.stderr.matches("exit status: 7").count(), 2, "{}", failed.stderr);
    script(&place, "slow", "sleep 3600");
    place
        .run(&run(&place, "-o exec:./slow --set exec.timeout_s=0.2"))
        .code(1)
        .says(&["./slow did not end within 0.2 s and was killed"]);
    place.run(&run(&place, "-o exec:no-such-command")).code(2).says(&["no-such-command", "PATH"]);
    place.run(&run(&place, "-o exec:./hook -o exec:./hook")).code(2).says(&["given twice"]);
    place.run(&run(&place, "-o exec:./hook --set exec.jobs=0")).code(2).says(&["exec.jobs"]);
}

#[test]
fn the_events_of_a_tree_are_sent_too() {
    let place = place();
    boxed(&place, "tree/a/x.mp4", 3);
    boxed(&place, "tree/b/x.mp4", 3);
    script(&place, "hook", "cat >> got.jsonl");
    place.run(&format!("run -r tree -o none -o events:events -o exec:./hook {RULES}")).code(0);
    let events = |name: &str| fs::read_to_string(place.path(name)).unwrap();
    assert_eq!(events("got.jsonl"), events("events/a/x.jsonl") + &events("events/b/x.jsonl"));
}
