//! Every command and argument of the agent, said once: parsing, help, suggestions and completion all read this table.
//!
//! Must hold: every command takes [`COMMON`]; an argument's name is unique within its command; what is required has no default.
//! [`super::checked`] asks for arguments by the names they have here, and a test asks for all of them.

use crate::config::DEFAULT_FILE;

/// The program, or one of its commands.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    /// One line.
    pub(super) summary: &'static str,
    /// What `--help` says beyond that.
    pub(super) more: &'static str,
    /// In the order of the help, in groups so that commands can share them.
    pub(super) groups: &'static [&'static [Argument]],
}

/// An option, or a positional argument.
#[derive(Debug)]
pub(super) struct Argument {
    /// Without dashes.
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    pub(super) place: Place,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    /// The variable that stands in for it.
    pub(super) environment: Option<&'static str>,
    /// What counts where neither says anything.
    pub(super) default: Option<&'static str>,
    pub(super) required: bool,
    /// Neither help nor completion mentions it.
    pub(super) hidden: bool,
    /// Its value is never shown.
    pub(super) secret: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `--name VALUE`, anywhere.
    Option,
    /// By its position, once.
    Positional,
    /// By its position, one or more.
    Positionals,
}

/// What a value is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// There is none: the option is there, or it is not.
    Flag,
    /// Whatever the argument's own check lets pass, empty ones among it.
    Text,
    /// Not empty.
    File,
    /// May be empty, as every override may: then the configuration counts.
    Folder,
    /// One of these words, each with what it means.
    Words(&'static [(&'static str, &'static str)]),
    /// The name of a command.
    Command,
}

impl Command {
    pub(super) fn arguments(&self) -> impl Iterator<Item = &'static Argument> {
        self.groups.iter().copied().flatten()
    }

    pub(super) fn options(&self) -> impl Iterator<Item = &'static Argument> {
        self.arguments().filter(|argument| argument.place == Place::Option)
    }

    /// The options that help and completion mention.
    pub(super) fn shown_options(&self) -> impl Iterator<Item = &'static Argument> {
        self.options().filter(|argument| !argument.hidden)
    }

    /// No command has more than one.
    pub(super) fn positional(&self) -> Option<&'static Argument> {
        self.arguments().find(|argument| argument.place != Place::Option)
    }
}

impl Argument {
    /// How errors and usage lines write it: `--config <CONFIG>`, `<FILES>...`, `--version`.
    pub(super) fn label(&self) -> String {
        let name = self.name;
        match (self.place, self.kind) {
            (Place::Option, Kind::Flag) => format!("--{name}"),
            (Place::Option, _) => format!("--{name} <{}>", self.value_name()),
            (Place::Positional, _) if !self.required => format!("[{}]", self.value_name()),
            (Place::Positional, _) => format!("<{}>", self.value_name()),
            (Place::Positionals, _) => format!("<{}>...", self.value_name()),
        }
    }

    pub(super) fn value_name(&self) -> String {
        self.name.to_ascii_uppercase().replace('-', "_")
    }
}

pub(super) fn command(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// What most arguments are.
const OPTION: Argument = Argument {
    name: "",
    short: None,
    place: Place::Option,
    kind: Kind::Text,
    help: "",
    environment: None,
    default: None,
    required: false,
    hidden: false,
    secret: false,
};

pub(super) static PROGRAM: Command = Command {
    name: "driftglass-agent",
    summary: "Turns camera frames into feature sketches and delivers them",
    more: "",
    groups: &[
        &COMMON,
        &[Argument { name: "version", short: Some('V'), kind: Kind::Flag, help: "Print version", ..OPTION }],
    ],
};

static COMMON: [Argument; 2] = [
    Argument {
        name: "log-format",
        kind: Kind::Words(&[("text", "For people"), ("json", "One JSON object a line")]),
        // The configuration says it too, so the default is not one of the option.
        help: "How log lines look [default: text]",
        environment: Some("DRIFTGLASS_LOG_FORMAT"),
        ..OPTION
    },
    Argument { name: "help", short: Some('h'), kind: Kind::Flag, help: "Print help", ..OPTION },
];

static SETTINGS: [Argument; 7] = [
    Argument {
        name: "config",
        kind: Kind::File,
        help: "The configuration file",
        environment: Some("DRIFTGLASS_CONFIG"),
        default: Some(DEFAULT_FILE),
        ..OPTION
    },
    Argument { name: "site", help: "Overrides `site`", environment: Some("DRIFTGLASS_SITE"), ..OPTION },
    Argument { name: "device", help: "Overrides `device`", environment: Some("DRIFTGLASS_DEVICE"), ..OPTION },
    Argument {
        name: "state-dir",
        kind: Kind::Folder,
        help: "Overrides `state_dir`",
        environment: Some("DRIFTGLASS_STATE_DIR"),
        ..OPTION
    },
    Argument {
        name: "aggregator",
        help: "Overrides `aggregator.address`",
        environment: Some("DRIFTGLASS_AGGREGATOR"),
        ..OPTION
    },
    Argument {
        name: "telemetry",
        help: "Overrides `telemetry.listen`",
        environment: Some("DRIFTGLASS_TELEMETRY"),
        ..OPTION
    },
    Argument { name: "log-level", help: "Overrides `log.level`", environment: Some("DRIFTGLASS_LOG_LEVEL"), ..OPTION },
];

pub(super) static COMMANDS: [Command; 8] = [
    Command {
        name: "run",
        summary: "Run the service",
        more: "",
        groups: &[&[Argument { name: "kept", kind: Kind::Flag, hidden: true, ..OPTION }], &SETTINGS, &COMMON],
    },
    Command {
        name: "check",
        summary: "Validate the configuration; touches nothing",
        more: "",
        groups: &[&SETTINGS, &COMMON],
    },
    Command {
        name: "enroll",
        summary: "Obtain an identity for this device with a one-time token",
        more: "The key is made here and stays here. Who the aggregator is, the token says. An agent that runs already takes up the \
               new identity by itself when its old one is refused.",
        groups: &[
            &[Argument {
                name: "token",
                help: "The token that `driftglass token create` printed for this device; in DRIFTGLASS_TOKEN other users of this \
                       machine do not see it",
                environment: Some("DRIFTGLASS_TOKEN"),
                required: true,
                secret: true,
                ..OPTION
            }],
            &SETTINGS,
            &COMMON,
        ],
    },
    Command {
        name: "features",
        summary: "Print the feature values of pictures, exactly those the service sketches",
        more: "",
        groups: &[
            &[
                Argument {
                    name: "files",
                    place: Place::Positionals,
                    kind: Kind::File,
                    help: "The pictures (JPEG or PNG)",
                    required: true,
                    ..OPTION
                },
                Argument {
                    name: "format",
                    kind: Kind::Words(&[
                        ("table", "For people"),
                        ("json", "One JSON array"),
                        ("csv", "RFC 4180, one line a file"),
                    ]),
                    help: "How values are shown",
                    default: Some("table"),
                    ..OPTION
                },
            ],
            &COMMON,
        ],
    },
    Command {
        name: "replay",
        summary: "Send recorded frames as if they were taken then, and wait until all is acknowledged",
        more: "",
        groups: &[
            &[
                Argument {
                    name: "frames",
                    kind: Kind::Folder,
                    help: "Folder of the frames, in order of file name",
                    required: true,
                    ..OPTION
                },
                Argument { name: "camera", help: "The camera they count for", required: true, ..OPTION },
                Argument { name: "start", help: "Time of the first frame (RFC 3339)", required: true, ..OPTION },
                Argument { name: "fps", help: "Frames per second of event time", required: true, ..OPTION },
                Argument { name: "speed", help: "How many times real time, or `max`", default: Some("max"), ..OPTION },
                Argument {
                    name: "predictions",
                    kind: Kind::File,
                    help: "What a model said of the frames: CSV with the columns frame and confidence, and where known label, \
                           truth, second_confidence and latency_ms",
                    ..OPTION
                },
            ],
            &SETTINGS,
            &COMMON,
        ],
    },
    Command {
        name: "inspect",
        summary: "Print what is or was sent: every record of a segment file, or of the whole spool",
        more: "",
        groups: &[
            &[
                Argument {
                    name: "what",
                    place: Place::Positional,
                    kind: Kind::File,
                    help: "A segment file, or the word `spool` for the one in the state folder",
                    required: true,
                    ..OPTION
                },
                Argument {
                    name: "format",
                    kind: Kind::Words(&[("text", "For people"), ("json", "One JSON object a line")]),
                    help: "How records are shown",
                    default: Some("text"),
                    ..OPTION
                },
            ],
            &SETTINGS,
            &COMMON,
        ],
    },
    Command {
        name: "completion",
        summary: "Print a completion script",
        more: "",
        groups: &[
            &[Argument {
                name: "shell",
                place: Place::Positional,
                kind: Kind::Words(&[("bash", ""), ("fish", ""), ("zsh", "")]),
                help: "The shell",
                required: true,
                ..OPTION
            }],
            &COMMON,
        ],
    },
    Command {
        name: "help",
        summary: "Print this message or the help of the given subcommand",
        more: "",
        groups: &[
            &[Argument {
                name: "command",
                place: Place::Positional,
                kind: Kind::Command,
                help: "The subcommand",
                ..OPTION
            }],
            &COMMON,
        ],
    },
];
