//! Programs that write pictures to their output.

use super::*;

fn shell(script: &str) -> String {
    format!("kind = \"exec\", command = [\"sh\", \"-c\", {script:?}], timeout = \"1s\", max_frame = \"64KiB\"")
}

#[tokio::test]
async fn a_program_delivers_pictures_and_is_started_again_when_it_ends() {
    let folder = tempfile::tempdir().expect("folder");
    let (first, second) = (jpeg(1, 16, 16), jpeg(2, 64, 16));
    fs::write(folder.path().join("1"), &first).expect("written");
    fs::write(folder.path().join("2"), [second.as_slice(), &second[..40]].concat()).expect("written");
    let script = format!("cd {:?}; cat 1; cat 2; echo rtsp://admin:secret@cam/1: no route >&2; exit 3", folder.path());
    let mut running = Running::one(shell(&script)).await;
    for _ in 0..2 {
        assert_eq!(running.picture(0).await, first);
        assert_eq!(running.picture(0).await, second);
        let message = running.failure(0, "exited").await;
        assert_eq!(message, "sh ended (exit code 3): rtsp://***@cam/1: no route");
    }
    running.end().await;
}

#[tokio::test]
async fn a_program_that_misbehaves_has_the_name_of_what_it_does() {
    let cameras = [
        ("absent", "kind = \"exec\", command = [\"/nonexistent/camera\"]".to_owned(), "start"),
        ("silent", shell("sleep 1000"), "stalled"),
        ("talking", shell("while true; do echo busy >&2; done"), "stalled"),
        ("garbage", shell("yes"), "malformed"),
        ("closed", shell("exec >&-; sleep 1000"), "exited"),
        ("killed", shell("kill -9 $$"), "exited"),
    ];
    let sources: Vec<(&str, String)> = cameras.iter().map(|(name, source, _)| (*name, source.clone())).collect();
    let running = Running::start(&sources, rand::random::<u64>).await;
    for (camera, (_, _, reason)) in cameras.iter().enumerate() {
        running.failure(camera, reason).await;
    }
    running.end().await;
}

/// Whether a process is there and not only waiting to be buried.
fn alive(pid: &str) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{}/stat", pid.trim())) else { return false };
    !status.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn a_program_and_whatever_it_started_end_with_the_agent_even_if_they_do_not_want_to() {
    let folder = tempfile::tempdir().expect("folder");
    let pids = folder.path().join("pids");
    let script =
        format!("trap '' TERM; sleep 1000 & echo $! >> {pids:?}; echo $$ >> {pids:?}; while true; do sleep 0.1; done");
    let running =
        Running::one(format!("kind = \"exec\", command = [\"sh\", \"-c\", {script:?}], timeout = \"1h\"")).await;
    let end = Instant::now() + PATIENCE;
    let found = loop {
        let text = fs::read_to_string(&pids).unwrap_or_default();
        if text.lines().count() == 2 {
            break text;
        }
        assert!(Instant::now() < end, "the program did not start: {:?}", running.statuses[0].health());
        sleep(Duration::from_millis(5)).await;
    };
    assert!(found.lines().all(alive), "{found}");
    running.end().await;
    let end = Instant::now() + PATIENCE;
    while found.lines().any(alive) {
        assert!(Instant::now() < end, "{found} live on");
        sleep(Duration::from_millis(5)).await;
    }
}
