//! What the demo prints: a line a stage, one line that moves where there is a terminal.

use std::io::{self, IsTerminal, Write};

use crate::client::Alert;

/// The terminal, or whatever stands in for it.
pub(super) struct Screen {
    terminal: bool,
    moving: bool,
    last: Option<(String, usize)>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), moving: false, last: None }
    }

    /// A new stage of the story.
    pub(super) fn stage(&mut self, text: &str) {
        self.settle();
        say(&format!("{text}\n"));
    }

    /// How far something has come. Without a terminal only every quarter is printed.
    pub(super) fn progress(&mut self, title: &str, done: usize, total: usize) {
        let total = total.max(1);
        if self.terminal {
            let filled = (done * 24 / total).min(24);
            say(&format!("\r\x1b[K[{}{}] {done}/{total} {title}", "#".repeat(filled), ".".repeat(24 - filled)));
            self.moving = true;
            return;
        }
        let word = title.split(' ').next().unwrap_or_default();
        let quarter = done * 4 / total;
        if self.last.as_ref().is_none_or(|(last, at)| last != word || *at < quarter) {
            say(&format!("{title}: {done}/{total}\n"));
            self.last = Some((word.to_owned(), quarter));
        }
    }

    /// That something is awaited; only where there is a terminal.
    pub(super) fn waiting(&mut self, text: &str) {
        if self.terminal {
            say(&format!("\r\x1b[K{text}"));
            self.moving = true;
        }
    }

    /// An alert as it would reach an operator.
    pub(super) fn alert(&mut self, alert: &Alert) {
        self.settle();
        let (on, off) = if self.terminal { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        say(&format!(
            "\n{on}ALERT {}{off}  {}\n  cause     {} (severity {})\n  began     {}\n  raised    {}\n  to do     {}\n\n",
            alert.id,
            alert.subject,
            alert.cause,
            alert.severity,
            alert.first_window,
            alert.raised_at,
            alert.recommended_action
        ));
    }

    fn settle(&mut self) {
        if self.moving {
            say("\n");
            self.moving = false;
        }
    }
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    // Nobody is left to tell if standard output is closed.
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}
