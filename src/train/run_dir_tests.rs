use super::*;
use crate::train::metrics::{Writer, read};

fn new(root: &Path) -> RunDir {
    RunDir::create(root, &RunConfig::default(), false).unwrap()
}

fn checkpoint(run: &RunDir, step: u64) {
    let name = folder_name(step);
    files::write_folder(&run.checkpoints().join(&name), |dir| files::write(&dir.join("state.json"), b"{}")).unwrap();
    files::write(&run.checkpoints().join("latest"), name.as_bytes()).unwrap();
}

#[test]
fn dates() {
    let cases = [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (951_868_800, "2000-03-01T00:00:00Z"),
        (1_709_164_799, "2024-02-28T23:59:59Z"),
        (1_709_251_199, "2024-02-29T23:59:59Z"),
        (1_735_689_599, "2024-12-31T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ];
    let failed: Vec<_> =
        cases.iter().map(|(s, want)| (want, timestamp(*s))).filter(|(want, got)| *want != got).collect();
    assert!(failed.is_empty(), "(want, got): {failed:?}");
    assert_eq!(default_name("emoji", 951_782_399), "emoji-20000228-235959");
}

#[test]
fn an_earlier_run_is_not_overwritten() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("a/run");
    let run = new(&root);
    checkpoint(&run, 5);
    fs::write(run.events_path(7), "x").unwrap();
    let message = RunDir::create(&root, &RunConfig::default(), false).unwrap_err().to_string();
    assert!(message.contains("mmae resume") && message.contains("--force"), "{message}");
    assert_eq!(run.steps().unwrap(), [5]);
    fs::write(root.join("thesis.tex"), "x").unwrap();
    let message = RunDir::create(&root, &RunConfig::default(), true).unwrap_err().to_string();
    assert!(message.contains("thesis.tex"), "{message}");
    assert_eq!(run.steps().unwrap(), [5]);
    fs::remove_file(root.join("thesis.tex")).unwrap();
    RunDir::create(&root, &RunConfig::default(), true).unwrap();
    assert!(run.steps().unwrap().is_empty());
    assert_eq!(names(&root).unwrap(), ["checkpoints", "config.toml", "samples"]);
}

#[test]
fn only_a_run_can_be_opened() {
    let parent = tempfile::tempdir().unwrap();
    assert!(RunDir::open(parent.path()).unwrap_err().to_string().contains("no config.toml"));
    let run = new(&parent.path().join("run"));
    fs::create_dir(run.checkpoints().join("step-000009.tmp-1-1")).unwrap();
    fs::write(run.root().join("env.json.tmp-1-1"), "{").unwrap();
    assert_eq!(RunDir::open(run.root()).unwrap(), run);
    assert_eq!(names(run.root()).unwrap(), ["checkpoints", "config.toml", "samples"]);
    assert!(names(&run.checkpoints()).unwrap().is_empty());
    run.log("hello").unwrap();
    run.log("again").unwrap();
    let log = files::read_text(&run.root().join("train.log")).unwrap();
    assert_eq!(log.lines().map(|l| &l[20..]).collect::<Vec<_>>(), [" hello", " again"]);
}

#[test]
fn latest_must_name_a_checkpoint() {
    let parent = tempfile::tempdir().unwrap();
    let run = new(&parent.path().join("run"));
    assert!(run.latest().unwrap_err().to_string().contains("no checkpoint yet"));
    for name in ["step-000007", "..", "", "../../etc", "/"] {
        fs::write(run.checkpoints().join("latest"), name).unwrap();
        assert!(run.latest().is_err(), "{name}");
    }
    checkpoint(&run, 7);
    assert_eq!(run.latest().unwrap(), run.checkpoints().join("step-000007"));
}

#[test]
fn old_checkpoints_go_and_latest_stays() {
    let parent = tempfile::tempdir().unwrap();
    let run = new(&parent.path().join("run"));
    for step in [1, 2, 3, 4] {
        checkpoint(&run, step);
    }
    run.prune(0).unwrap();
    assert_eq!(run.steps().unwrap(), [1, 2, 3, 4]);
    fs::write(run.checkpoints().join("latest"), "step-000001").unwrap();
    run.prune(2).unwrap();
    assert_eq!(run.steps().unwrap(), [1, 3, 4]);
}

#[test]
fn rewinding_forgets_later_steps() {
    let parent = tempfile::tempdir().unwrap();
    let run = new(&parent.path().join("run"));
    let mut writer = Writer::append(&run.metrics_path()).unwrap();
    for step in 1..=4 {
        writer.write(step, &[("loss", step as f64)]).unwrap();
        checkpoint(&run, step);
    }
    run.rewind(2).unwrap();
    assert_eq!(run.steps().unwrap(), [1, 2]);
    assert_eq!(run.latest().unwrap(), run.checkpoints().join("step-000002"));
    let steps: Vec<_> = read(&run.metrics_path()).unwrap().iter().map(|r| r.step).collect();
    assert_eq!(steps, [1, 2]);
}

#[test]
fn earlier_environments_stay() {
    let parent = tempfile::tempdir().unwrap();
    let run = new(&parent.path().join("run"));
    let read = || serde_json::from_str::<Json>(&files::read_text(&run.root().join("env.json")).unwrap()).unwrap();
    let begin = |driver: &str| run.write_environment([("driver".to_owned(), driver.into())].into_iter().collect());
    for driver in ["a", "b", "c"] {
        begin(driver).unwrap();
    }
    let earlier = serde_json::json!([{"driver": "a"}, {"driver": "b"}]);
    assert_eq!(read(), serde_json::json!({"driver": "c", "earlier": earlier}));
    fs::write(run.root().join("env.json"), "{\"driver\": ").unwrap();
    begin("d").unwrap();
    assert_eq!(read(), serde_json::json!({"driver": "d"}));
}
