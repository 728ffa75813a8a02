//! Completion scripts, written from the table, for the shells of the systems the agent runs on.
//!
//! Must hold: what a script offers is what the parser takes; hidden arguments are not offered. Values are offered where they are known:
//! words, files, folders, names of commands.

use super::table::{Argument, COMMANDS, Command, Kind, PROGRAM, Place};

/// A shell that completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shell {
    Bash,
    Fish,
    Zsh,
}

impl Shell {
    /// What this shell has to read.
    pub(crate) fn script(self) -> String {
        match self {
            Self::Bash => bash(),
            Self::Fish => fish(),
            Self::Zsh => zsh(),
        }
    }
}

fn names() -> String {
    joined(COMMANDS.iter().map(|command| command.name))
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

/// The words a value is one of; none where it may be another.
fn words(kind: Kind) -> String {
    match kind {
        Kind::Words(words) => joined(words.iter().map(|(word, _)| *word)),
        Kind::Command => names(),
        Kind::Flag | Kind::Text | Kind::File | Kind::Folder => String::new(),
    }
}

const BASH_HEAD: &str = r#"# Completion for bash.

_driftglass_agent() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
    local command='' kind='' words='' options='' i
    COMPREPLY=()
    # '=' is a word of its own.
    if [[ $current == = ]]; then
        current=''
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD-2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            --log-format)
                [[ ${COMP_WORDS[i+1]} == = ]] && ((++i))
                ((++i)) ;;
            -*) ;;
            *)
                command=${COMP_WORDS[i]}
                break ;;
        esac
    done
    case $command in
"#;

const BASH_TAIL: &str = r#"    esac
    if [[ -n $options && ($current == -* || -z $kind) ]]; then
        kind=words words=$options
    fi
    case $kind in
        words) mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current") ;;
        file) compopt -o default ;;
        folder) compopt -o dirnames ;;
    esac
}

complete -F _driftglass_agent driftglass-agent
"#;

fn bash() -> String {
    let mut script = String::from(BASH_HEAD);
    bash_command(&mut script, "''", &PROGRAM, Some(Kind::Command));
    for command in &COMMANDS {
        bash_command(&mut script, command.name, command, command.positional().map(|argument| argument.kind));
    }
    script + BASH_TAIL
}

fn bash_command(script: &mut String, pattern: &str, command: &Command, positional: Option<Kind>) {
    let mut options = String::new();
    for argument in command.shown_options() {
        if let Some(letter) = argument.short {
            options += &format!("-{letter} ");
        }
        options += &format!("--{} ", argument.name);
    }
    let positional = positional.map(bash_value).unwrap_or_default();
    *script += &format!("        {pattern})\n            options='{}' {positional}", options.trim_end());
    script.truncate(script.trim_end().len());
    *script += "\n";
    *script += "            case $previous in\n";
    let mut others = Vec::new();
    for argument in command.shown_options() {
        match argument.kind {
            Kind::Flag => {}
            Kind::Text => others.push(format!("--{}", argument.name)),
            kind => *script += &format!("                --{}) options='' {} ;;\n", argument.name, bash_value(kind)),
        }
    }
    if !others.is_empty() {
        *script += &format!("                {}) options='' kind=other ;;\n", others.join(" | "));
    }
    *script += "            esac ;;\n";
}

fn bash_value(kind: Kind) -> String {
    match kind {
        Kind::Flag | Kind::Text => "kind=other".into(),
        Kind::File => "kind=file".into(),
        Kind::Folder => "kind=folder".into(),
        Kind::Words(_) | Kind::Command => format!("kind=words words='{}'", words(kind)),
    }
}

fn fish() -> String {
    let none = format!("not __fish_seen_subcommand_from {}", names());
    let mut script = String::from("# Completion for fish.\n\ncomplete -c driftglass-agent -f\n");
    fish_options(&mut script, &none, &PROGRAM);
    for command in &COMMANDS {
        fish_line(&mut script, &none, &format!("-a {} -d {}", command.name, quoted(command.summary)));
    }
    for command in &COMMANDS {
        let chosen = format!("__fish_seen_subcommand_from {}", command.name);
        fish_options(&mut script, &chosen, command);
        if let Some(argument) = command.positional() {
            fish_line(&mut script, &chosen, &fish_value(argument.kind));
        }
    }
    script
}

fn fish_line(script: &mut String, condition: &str, what: &str) {
    *script += &format!("complete -c driftglass-agent -n '{condition}' {what}\n");
}

fn fish_options(script: &mut String, condition: &str, command: &Command) {
    for argument in command.shown_options() {
        let mut what = format!("-l {} ", argument.name);
        if let Some(letter) = argument.short {
            what += &format!("-s {letter} ");
        }
        if !matches!(argument.kind, Kind::Flag) {
            what += &format!("-r {} ", fish_value(argument.kind));
        }
        what += &format!("-d {}", quoted(argument.help));
        fish_line(script, condition, &what);
    }
}

fn fish_value(kind: Kind) -> String {
    match kind {
        Kind::Flag | Kind::Text => "-f".into(),
        Kind::File => "-F".into(),
        Kind::Folder => "-f -a '(__fish_complete_directories)'".into(),
        Kind::Words(_) | Kind::Command => format!("-f -a '{}'", words(kind)),
    }
}

const ZSH_HEAD: &str = r#"#compdef driftglass-agent
# Completion for zsh.

_driftglass-agent() {
    local curcontext=$curcontext state state_descr line ret=1
    local -a commands
    typeset -A opt_args
    commands=(
"#;

const ZSH_CHOICE: &str = r#"        '1:COMMAND:->command' \
        '*::ARGUMENT:->argument' && ret=0
    case $state in
        command) _describe -t commands command commands && ret=0 ;;
        argument)
            case $words[1] in
"#;

const ZSH_TAIL: &str = r#"            esac ;;
    esac
    return ret
}

# Found by its name in a folder for functions, or read as it is.
if [[ $funcstack[1] == _driftglass-agent ]]; then
    _driftglass-agent "$@"
else
    compdef _driftglass-agent driftglass-agent
fi
"#;

fn zsh() -> String {
    let mut script = String::from(ZSH_HEAD);
    for command in &COMMANDS {
        script += &format!("        {}\n", quoted(&format!("{}:{}", command.name, escaped(command.summary))));
    }
    script += "    )\n    _arguments -C -S \\\n";
    for argument in PROGRAM.shown_options() {
        script += &format!("        {} \\\n", zsh_argument(argument));
    }
    script += ZSH_CHOICE;
    for command in &COMMANDS {
        script += &format!("                {}) _arguments -S", command.name);
        for argument in command.arguments().filter(|argument| !argument.hidden) {
            script += &format!(" \\\n                    {}", zsh_argument(argument));
        }
        script += " && ret=0 ;;\n";
    }
    script + ZSH_TAIL
}

/// As `_arguments` takes it.
fn zsh_argument(argument: &Argument) -> String {
    let (name, help) = (argument.name, escaped(argument.help));
    let action = match argument.kind {
        Kind::Flag => {
            let help = quoted(&format!("[{help}]"));
            return match argument.short {
                // Help and version: with them everything else is pointless.
                Some(letter) => format!("'(- *)'{{-{letter},--{name}}}{help}"),
                None => format!("--{name}{help}"),
            };
        }
        Kind::Text => " ".into(),
        Kind::File => "_files".into(),
        Kind::Folder => "_files -/".into(),
        Kind::Words(_) | Kind::Command => format!("({})", words(argument.kind)),
    };
    let value = argument.value_name();
    quoted(&match argument.place {
        Place::Option => format!("--{name}=[{help}]:{value}:{action}"),
        Place::Positional => format!("1:{value}:{action}"),
        Place::Positionals => format!("*:{value}:{action}"),
    })
}

/// For zsh, to whom some characters of a text mean something.
fn escaped(text: &str) -> String {
    text.replace('[', "\\[").replace(']', "\\]").replace(':', "\\:")
}

/// As one word of every shell; the table's texts have no backslashes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use super::*;

    const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

    /// What bash offers for the last of these words.
    fn offered(words: &[&str]) -> String {
        let test = format!(
            "{}\ncompopt() {{ printf '%s ' \"<$2>\"; }}\nCOMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1))\n_driftglass_agent\n\
             printf '%s' \"${{COMPREPLY[*]}}\"",
            Shell::Bash.script()
        );
        let output =
            Process::new("bash").args(["-u", "-c", &test, "bash"]).args(words).output().expect("bash is there");
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    #[test]
    fn bash_completes_commands_options_words_and_files() {
        let agent = "driftglass-agent";
        assert_eq!(offered(&[agent, ""]), names());
        assert_eq!(offered(&[agent, "re"]), "replay");
        assert_eq!(offered(&[agent, "help", "en"]), "enroll");
        assert_eq!(offered(&[agent, "--log-format", "json", "ch"]), "check", "behind an option and its value");
        assert_eq!(offered(&[agent, "--log-format", "=", "json", "ch"]), "check");
        assert_eq!(offered(&[agent, "--v"]), "--version");
        assert_eq!(offered(&[agent, "replay", "--f"]), "--frames --fps");
        assert_eq!(offered(&[agent, "run", "--s"]), "--site --state-dir");
        assert!(offered(&[agent, "replay", ""]).starts_with("--frames --camera "), "there is nothing else");
        assert_eq!(offered(&[agent, "features", "--format", ""]), "table json csv");
        assert_eq!(offered(&[agent, "features", "--format", "="]), "table json csv");
        assert_eq!(offered(&[agent, "features", "--format", "=", "c"]), "csv");
        assert_eq!(offered(&[agent, "inspect", "--log-format", "t"]), "text");
        assert_eq!(offered(&[agent, "completion", "z"]), "zsh");
        assert_eq!(offered(&[agent, "features", "a"]), "<default> ");
        assert_eq!(offered(&[agent, "check", "--config", ""]), "<default> ");
        assert_eq!(offered(&[agent, "replay", "--frames", ""]), "<dirnames> ");
        assert_eq!(offered(&[agent, "replay", "--camera", ""]), "", "nobody knows it");
        assert_eq!(offered(&[agent, "nonsense", ""]), "");
    }

    #[test]
    fn every_shell_is_told_of_everything_but_what_is_hidden() {
        for shell in SHELLS {
            let script = shell.script();
            for command in COMMANDS.iter().chain([&PROGRAM]) {
                assert!(script.contains(command.name), "{shell:?}: {}", command.name);
                for argument in command.options() {
                    let option = match shell {
                        Shell::Fish => format!("-l {} ", argument.name),
                        Shell::Bash | Shell::Zsh => format!("--{}", argument.name),
                    };
                    assert_eq!(script.contains(&option), !argument.hidden, "{shell:?}: {option}");
                }
                for argument in command.arguments().filter(|argument| !argument.hidden) {
                    assert!(script.contains(&words(argument.kind)), "{shell:?}: {}", argument.name);
                    assert!(!argument.help.contains('\\'), "{}: not escaped", argument.name);
                }
            }
        }
    }

    #[test]
    fn zsh_and_fish_are_told_what_values_are() {
        let zsh = Shell::Zsh.script();
        assert!(zsh.starts_with("#compdef driftglass-agent\n"));
        assert!(zsh.contains("'--config=[The configuration file]:CONFIG:_files'"), "{zsh}");
        assert!(zsh.contains(":FRAMES:_files -/'") && zsh.contains("'*:FILES:_files'"), "{zsh}");
        assert!(zsh.contains("sent\\: every record"), "{zsh}");
        let fish = Shell::Fish.script();
        let chosen = "complete -c driftglass-agent -n '__fish_seen_subcommand_from features'";
        assert!(fish.contains(&format!("{chosen} -l format -r -f -a 'table json csv' -d ")), "{fish}");
        assert!(fish.contains(&format!("{chosen} -F\n")), "{fish}");
    }
}
