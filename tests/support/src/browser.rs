//! Headless Chromium through its own protocol, over a pair of pipes.

use std::cell::{Cell, RefCell};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::live::{WAIT, until};

/// A browser. Killed on drop.
pub struct Browser {
    child: Child,
    input: RefCell<ChildStdin>,
    messages: Receiver<Value>,
    next: Cell<u64>,
    /// Errors and warnings of the pages, as the console shows them.
    complaints: RefCell<Vec<String>>,
    _profile: tempfile::TempDir,
}

/// How a page is shown.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
    pub phone: bool,
}

impl Default for Screen {
    fn default() -> Self {
        Self { width: 1280, height: 900, dark: false, phone: false }
    }
}

/// A page of a browser.
pub struct Page<'a> {
    browser: &'a Browser,
    target: String,
    session: String,
}

impl Browser {
    /// Starts it; `None`, with a printed reason, where there is no Chromium.
    pub fn start() -> Option<Self> {
        let named = ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()));
        let Some(name) = named else {
            println!("skipped: there is no Chromium (apt-get install chromium)");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        // The protocol is spoken over the descriptors 3 and 4.
        let command = format!(
            "exec {name} --headless --no-sandbox --disable-gpu --no-first-run --hide-scrollbars --remote-debugging-pipe \
             --user-data-dir='{}' about:blank 3<&0 4>&1 </dev/null >/dev/null 2>&1",
            profile.path().display()
        );
        let mut child = Command::new("sh")
            .args(["-c", &command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let input = RefCell::new(child.stdin.take().unwrap());
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in output.split(0).map_while(|message| message.ok()) {
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let next = Cell::new(1);
        let complaints = RefCell::default();
        Some(Self { child, input, messages, next, complaints, _profile: profile })
    }

    /// Opens `url`.
    pub fn open(&self, url: &str, screen: Screen) -> Page<'_> {
        let target = self.call(None, "Target.createTarget", json!({ "url": "about:blank" }));
        let target = target["targetId"].as_str().unwrap().to_owned();
        let attached = self.call(None, "Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        let page = Page { browser: self, target, session };
        page.call("Runtime.enable", json!({}));
        page.call("Log.enable", json!({}));
        page.call(
            "Emulation.setDeviceMetricsOverride",
            json!({
                "width": screen.width, "height": screen.height, "deviceScaleFactor": 1, "mobile": screen.phone,
            }),
        );
        let scheme = if screen.dark { "dark" } else { "light" };
        page.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
        page.go(url);
        page
    }

    /// What the pages complained of so far.
    pub fn complaints(&self) -> Vec<String> {
        while let Ok(message) = self.messages.try_recv() {
            self.note(&message);
        }
        self.complaints.borrow().clone()
    }

    fn note(&self, message: &Value) {
        let parameters = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => parameters["exceptionDetails"].to_string(),
            Some("Log.entryAdded") if parameters["entry"]["level"] == "error" => parameters["entry"].to_string(),
            _ => return,
        };
        self.complaints.borrow_mut().push(complaint);
    }

    fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let id = self.next.replace(self.next.get() + 1);
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let mut input = self.input.borrow_mut();
        write!(input, "{message}\0").unwrap();
        input.flush().unwrap();
        drop(input);
        loop {
            let answer = self.messages.recv_timeout(WAIT).unwrap_or_else(|error| panic!("{method}: {error}"));
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = write!(self.input.borrow_mut(), "{}\0", json!({ "id": 0, "method": "Browser.close" }));
        for _ in 0..50 {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Page<'_> {
    fn call(&self, method: &str, parameters: Value) -> Value {
        self.browser.call(Some(&self.session), method, parameters)
    }

    /// Loads `url`, and waits until it is there.
    #[track_caller]
    pub fn go(&self, url: &str) {
        // The new document does not know it.
        self.value("window.isBefore = true");
        self.call("Page.navigate", json!({ "url": url }));
        until("the page is loaded", || self.is("!window.isBefore && document.readyState === 'complete'"));
    }

    /// The value of a JavaScript expression; of a promise, when it is kept.
    #[track_caller]
    pub fn value(&self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Whether the expression is true.
    #[track_caller]
    pub fn is(&self, expression: &str) -> bool {
        self.value(expression) == true
    }

    /// Presses a key, such as `Tab`.
    pub fn press(&self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let code = match key {
                "Tab" => 9,
                "Enter" => 13,
                "Escape" => 27,
                "ArrowRight" => 39,
                _ => 0,
            };
            let text = if key == "Enter" && kind == "keyDown" { "\r" } else { "" };
            self.call(
                "Input.dispatchKeyEvent",
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text }),
            );
        }
    }

    /// Clicks at a place of the window.
    pub fn click(&self, x: f64, y: f64) {
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// A picture of the window, as a PNG file in base 64.
    pub fn screenshot(&self) -> String {
        self.call("Page.captureScreenshot", json!({ "format": "png" }))["data"].as_str().unwrap().to_owned()
    }

    /// Closes it.
    pub fn close(self) {
        self.browser.call(None, "Target.closeTarget", json!({ "targetId": self.target }));
    }
}
