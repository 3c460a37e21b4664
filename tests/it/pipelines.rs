//! Pipelines from the documents to the record: what runs when, of what, and what is told. The bake itself is a stand-in here,
//! except in the tests that boot a guest.

mod world;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use jiff::SignedDuration;
use ovenbird::pipeline::due::Watch;
use ovenbird::pipeline::scheduler::Told;
use ovenbird::pipeline::{Scheduler, resolve};
use ovenbird::store::{Home, InputRole, RunOutcome, Store};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::world::{
    COMPONENT, INFRASTRUCTURE, PIPELINE, RECIPE, StandIn, apply, home_with_base, import, pass_time,
    run_by_hand, runner, schedule_once, wait_on, write_documents,
};
use crate::setup::{self, Setup, tool, wait_for};

/// Three CloudFormation templates, each of another style, become pipelines that resolve to the end.
#[test]
fn templates_become_pipelines() {
    let setup = home_with_base();
    let disk = setup.path().join("tiny.qcow2");
    for arguments in [["--name", "debian-12"], ["--version", "12.5.0"]] {
        let mut words = vec!["base", "import", disk.as_str(), "--firmware", "bios"];
        words.extend(arguments);
        if !words.contains(&"--name") {
            words.extend(["--name", "debian-12"]);
        }
        setup.run(&words).expect(0);
    }
    apply(
        &setup,
        setup::source("recipes/components/hello-world").as_str(),
    );
    apply(
        &setup,
        setup::source("recipes/components/update-linux").as_str(),
    );
    for (template, parameter, pipeline, says) in [
        (
            "short-tags.yml",
            "BaseImage=debian-12",
            "short-tags-nightly",
            "component update-linux/1.0.0",
        ),
        (
            "long-form.json",
            "",
            "nightly",
            "component acme-hardening/2.1.0/1",
        ),
        (
            "conditions.yml",
            "Stage=prod",
            "golden-prod",
            "component hello-world/1.0.0/1",
        ),
    ] {
        let file = setup::source("tests/documents/templates").join(template);
        let mut words = vec!["apply", file.as_str()];
        if !parameter.is_empty() {
            words.extend(["--parameter", parameter]);
        }
        setup.run(&words).expect(0);
        let plan = setup
            .run(&["pipeline", "run", pipeline, "--dry-run"])
            .expect(0);
        assert!(plan.stdout.contains(says), "{template}: {}", plan.stdout);
        assert!(
            plan.stdout.contains("parent    debian-12/"),
            "{template}: {}",
            plan.stdout
        );
    }
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Role, name and version of what an image was made of, as `image show` tells it.
fn made_of(setup: &Setup, image: &str) -> Vec<String> {
    let shown = setup.run(&["image", "show", image, "--json"]).expect(0);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    shown["inputs"]
        .as_array()
        .unwrap_or_else(|| panic!("no inputs in {shown}"))
        .iter()
        .map(|input| {
            let text = |key: &str| input[key].as_str().unwrap_or("-").to_owned();
            format!("{} {}/{}", text("role"), text("name"), text("version"))
        })
        .collect()
}

#[test]
fn versions_and_build_numbers_from_folder_to_image() {
    let setup = home_with_base();
    write_documents(&setup);
    apply(&setup, "docs");
    let stand_in = StandIn::default();
    let runner = runner(&setup, &stand_in);
    for build in 1..=2 {
        let report = run_by_hand(&runner, "nightly");
        assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:?}");
        let arn = report.image.unwrap();
        assert!(
            arn.ends_with(&format!("image/web-server/1.0.0/{build}")),
            "{arn}"
        );
    }
    // The same component version with another content is its next build; the recipe stays as it is.
    setup.file("docs/component.yml", &COMPONENT.replace("WORD", "goodbye"));
    apply(&setup, "docs");
    assert_eq!(
        run_by_hand(&runner, "nightly").outcome,
        RunOutcome::Succeeded
    );
    // A new version of the recipe starts its own build numbers, and the pipeline follows its wildcard.
    setup.file(
        "docs/recipe.yml",
        &RECIPE.replace("semanticVersion: 1.0.0", "semanticVersion: 1.1.0"),
    );
    setup.file(
        "docs/component.yml",
        &COMPONENT
            .replace("WORD", "again")
            .replace("semanticVersion: 1.0.0", "semanticVersion: 1.2.0"),
    );
    apply(&setup, "docs");
    assert_eq!(
        run_by_hand(&runner, "nightly").outcome,
        RunOutcome::Succeeded
    );
    let wanted = |recipe: &str, component: &str| {
        vec![
            format!("recipe Web Server/{recipe}"),
            "parent tiny/1.0.0".to_owned(),
            format!("component greeting/{component}"),
            "infrastructure small/1".to_owned(),
            "distribution here/1".to_owned(),
            "pipeline nightly/1".to_owned(),
        ]
    };
    assert_eq!(
        made_of(&setup, "web-server/1.0.0/1"),
        wanted("1.0.0", "1.0.0/1")
    );
    assert_eq!(
        made_of(&setup, "web-server/1.0.0/2"),
        wanted("1.0.0", "1.0.0/1")
    );
    assert_eq!(
        made_of(&setup, "web-server/1.0.0/3"),
        wanted("1.0.0", "1.0.0/2")
    );
    assert_eq!(
        made_of(&setup, "web-server/1.1.0/1"),
        wanted("1.1.0", "1.2.0/1")
    );
    // The infrastructure's first known type that fits, the pipeline's tests and tags.
    let baked = stand_in.baked.lock().unwrap();
    assert_eq!(baked[0]["memory"], 512);
    assert_eq!(baked[0]["tests"], 0);
    let image = runner.store.find_image("web-server/1.0.0/1").unwrap();
    assert_eq!(image.tags["made-by"], "nightly");
    let digests: Vec<Option<String>> = ["web-server/1.0.0/2", "web-server/1.0.0/3"]
        .iter()
        .map(|image| {
            let image = runner.store.find_image(image).unwrap();
            let inputs = runner.store.inputs_of(&image).unwrap();
            inputs
                .into_iter()
                .find(|input| input.role == InputRole::Component)
                .and_then(|input| input.digest)
        })
        .collect();
    assert!(
        digests[0].is_some() && digests[0] != digests[1],
        "{digests:?}"
    );
}

#[test]
fn a_schedule_builds_only_what_is_newer() {
    let setup = home_with_base();
    write_documents(&setup);
    apply(&setup, "docs");
    let stand_in = StandIn::default();
    let runner = runner(&setup, &stand_in);
    // Just applied: nothing is due.
    assert_eq!(schedule_once(&runner, SignedDuration::ZERO), [""; 0]);
    // A day later its time has passed; it never ran, so that there is something to build.
    assert_eq!(
        schedule_once(&runner, DAY),
        ["nightly started", "nightly SUCCEEDED"]
    );
    assert_eq!(schedule_once(&runner, SignedDuration::ZERO), [""; 0]);
    // The next day there is nothing newer.
    assert_eq!(
        schedule_once(&runner, DAY),
        ["nightly started", "nightly SKIPPED"]
    );
    setup.file("docs/component.yml", &COMPONENT.replace("WORD", "newer"));
    apply(&setup, "docs");
    assert_eq!(
        schedule_once(&runner, DAY),
        ["nightly started", "nightly SUCCEEDED"]
    );
    // A newer parent counts as well.
    let disk = setup.path().join("tiny.qcow2");
    tool("qemu-img", &["resize", "-q", disk.as_str(), "32M"]);
    import(&setup, &disk);
    assert_eq!(
        schedule_once(&runner, DAY),
        ["nightly started", "nightly SUCCEEDED"]
    );
    // The other start condition asks for nothing.
    setup.file(
        "docs/pipeline.yml",
        &format!("{PIPELINE}  pipelineExecutionStartCondition: EXPRESSION_MATCH_ONLY\n"),
    );
    apply(&setup, "docs");
    assert_eq!(
        schedule_once(&runner, DAY),
        ["nightly started", "nightly SUCCEEDED"]
    );
    let shown = setup
        .run(&["pipeline", "show", "nightly", "--json"])
        .expect(0);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    let runs: Vec<String> = shown["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| {
            format!(
                "{} {}",
                run["startedBy"].as_str().unwrap(),
                run["outcome"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        runs,
        [
            "SCHEDULE SUCCEEDED",
            "SCHEDULE SUCCEEDED",
            "SCHEDULE SUCCEEDED",
            "SCHEDULE SKIPPED",
            "SCHEDULE SUCCEEDED",
        ]
    );
    assert_eq!(
        shown["runs"][3]["reason"]
            .as_str()
            .unwrap()
            .split(" arn")
            .next(),
        Some("nothing is newer than what")
    );
}

#[test]
fn failures_disable_a_pipeline_until_it_is_enabled() {
    let setup = home_with_base();
    write_documents(&setup);
    setup.file(
        "docs/pipeline.yml",
        &format!("{PIPELINE}  autoDisablePolicy: {{failureCount: 2}}\n"),
    );
    apply(&setup, "docs");
    let stand_in = StandIn::default();
    *stand_in.failures.lock().unwrap() = ["one", "two", "three"].into();
    let runner = runner(&setup, &stand_in);
    assert_eq!(
        schedule_once(&runner, DAY),
        ["nightly started", "nightly FAILED"]
    );
    // A failure by hand does not count.
    assert_eq!(run_by_hand(&runner, "nightly").outcome, RunOutcome::Failed);
    assert_eq!(
        schedule_once(&runner, DAY),
        ["nightly started", "nightly FAILED"]
    );
    let shown = setup.run(&["pipeline", "show", "nightly"]).expect(0);
    assert!(
        shown
            .stdout
            .starts_with("nightly  DISABLED\nreason:   2 scheduled runs failed in a row\n"),
        "{}",
        shown.stdout
    );
    assert_eq!(schedule_once(&runner, DAY), [""; 0]);
    setup.run(&["pipeline", "enable", "nightly"]).expect(0);
    assert_eq!(schedule_once(&runner, SignedDuration::ZERO), [""; 0]);
    assert_eq!(
        schedule_once(&runner, DAY),
        ["nightly started", "nightly SUCCEEDED"]
    );
    setup
        .run(&["pipeline", "disable", "nightly", "--reason", "holidays"])
        .expect(0);
    assert_eq!(schedule_once(&runner, DAY), [""; 0]);
    // Another document is another matter: what was set beside it is gone.
    setup.file("docs/pipeline.yml", &PIPELINE.replace("0 2", "0 3"));
    apply(&setup, "docs");
    let listed = setup.run(&["pipeline", "list", "--json"]).expect(0);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed[0]["status"], "ENABLED");
    assert_eq!(listed[0]["consecutiveFailures"], 0);
}

#[test]
fn what_can_not_be_resolved_is_a_failed_run_and_the_others_go_on() {
    let setup = home_with_base();
    write_documents(&setup);
    setup.file(
        "docs/recipe-2.yml",
        &RECIPE
            .replace("Web Server", "Other")
            .replace("tiny", "gone"),
    );
    setup.file(
        "docs/pipeline-2.yml",
        &PIPELINE
            .replace("nightly", "broken")
            .replace("web-server/x.x.x", "other/1.0.0"),
    );
    apply(&setup, "docs");
    let stand_in = StandIn::default();
    let runner = runner(&setup, &stand_in);
    let mut told = schedule_once(&runner, DAY);
    told.sort();
    assert_eq!(
        told,
        [
            "broken FAILED",
            "broken started",
            "nightly SUCCEEDED",
            "nightly started"
        ]
    );
    let refused = setup.run(&["pipeline", "run", "broken"]).expect(3);
    refused.says("gone");
}

#[test]
fn a_stopped_scheduler_stops_its_builds_in_order() {
    let setup = home_with_base();
    write_documents(&setup);
    // Two pipelines, but one at a time.
    setup.file(
        "docs/pipeline-2.yml",
        &PIPELINE.replace("nightly", "second"),
    );
    apply(&setup, "docs");
    let stand_in = StandIn {
        endless: true,
        ..StandIn::default()
    };
    let runner = runner(&setup, &stand_in);
    pass_time(&runner, DAY);
    let cancel = CancellationToken::new();
    let scheduler = Scheduler {
        runner: &runner,
        jobs: 1,
        watch: Watch::Called,
    };
    let mut ended = Vec::new();
    wait_on(async {
        let mut tell = |news| {
            if let Told::Finished(report) = news {
                ended.push((report.pipeline, report.outcome));
            }
        };
        let stop = async {
            while stand_in.baked.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cancel.cancel();
        };
        let (result, ()) = tokio::join!(scheduler.run(&cancel, &mut tell), stop);
        result.unwrap();
    });
    assert_eq!(ended, [("nightly".to_owned(), RunOutcome::Cancelled)]);
    assert_eq!(stand_in.baked.lock().unwrap().len(), 1);
    let waited = &runner.store.pipeline_runs("second", 1).unwrap()[0];
    assert_eq!(waited.outcome, RunOutcome::Cancelled);
    assert!(runner.store.running_runs().unwrap().is_empty());
    let image = runner.store.find_image("web-server").unwrap();
    assert_eq!(image.state.to_string(), "CANCELLED");
}

#[test]
fn many_schedulers_run_each_time_once() {
    let setup = home_with_base();
    write_documents(&setup);
    for name in ["second", "third", "fourth"] {
        setup.file(
            &format!("docs/{name}.yml"),
            &PIPELINE.replace("nightly", name),
        );
    }
    apply(&setup, "docs");
    let stand_in = StandIn::default();
    pass_time(&runner(&setup, &stand_in), DAY);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let runner = runner(&setup, &stand_in);
                let scheduler = Scheduler {
                    runner: &runner,
                    jobs: 2,
                    watch: Watch::Called,
                };
                wait_on(scheduler.run(&CancellationToken::new(), &mut |_| {})).unwrap();
            });
        }
    });
    assert_eq!(stand_in.baked.lock().unwrap().len(), 4);
}

#[test]
fn the_scheduler_of_the_program_ends_in_order() {
    let setup = home_with_base();
    write_documents(&setup);
    apply(&setup, "docs");
    // Nothing is due: it ends at once.
    setup.run(&["scheduler", "--once"]).expect(0);
    let mut child = setup
        .ovenbird(&["scheduler"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(
        lines.next().unwrap().unwrap(),
        "the scheduler runs; Ctrl-C ends it"
    );
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = wait_for("the scheduler to end", Duration::from_secs(60), || {
        child.try_wait().unwrap()
    });
    assert!(status.success(), "{status}");
}

#[test]
fn coming_runs_are_printed_in_the_zone_of_the_schedule() {
    let setup = home_with_base();
    write_documents(&setup);
    setup.file(
        "docs/pipeline.yml",
        &PIPELINE.replace("cron(0 2 * * ? *)", "cron(30 2 L 2 ? 2196-2199)"),
    );
    apply(&setup, "docs");
    let next = setup
        .run(&["pipeline", "next", "nightly", "--count", "5"])
        .expect(0);
    insta::assert_snapshot!(next.stdout, @"
    Mon 2196-02-29 02:30:00 +01:00  Europe/Berlin
    Tue 2197-02-28 02:30:00 +01:00  Europe/Berlin
    Wed 2198-02-28 02:30:00 +01:00  Europe/Berlin
    Thu 2199-02-28 02:30:00 +01:00  Europe/Berlin
    ");
    setup.file("docs/pipeline.yml", &PIPELINE.replace("0 2 *", "0 25 *"));
    // A wrong one does not even get into the store.
    let refused = setup.run(&["apply", "docs"]).expect(3);
    refused
        .says("column 8: hours is `25`")
        .says("expected: 0 to 23");
}

/// Answers one request with 200 and returns it: first line, headers and body.
fn answer_one(listener: TcpListener) -> std::thread::JoinHandle<(String, Vec<String>, String)> {
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let length = lines
            .iter()
            .find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            })
            .unwrap();
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        reader
            .get_mut()
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .unwrap();
        let first = lines.remove(0);
        (first, lines, String::from_utf8(body).unwrap())
    })
}

#[test]
fn who_wants_to_know_is_told() {
    let setup = home_with_base();
    write_documents(&setup);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let told = setup.path().join("told.json");
    setup.file("docs/token", "Bearer 1234\n");
    setup.file(
        "docs/infrastructure.yml",
        &format!(
            "{INFRASTRUCTURE}local:\n  logFolder: logs\n  notifications:\n  - command: [sh, -c, 'cat > {told}']\n  - webhook:\n      \
             url: http://{address}/hook\n      headers:\n      - {{name: Authorization, valueFromFile: {}}}\n",
            setup.path().join("docs/token")
        ),
    );
    apply(&setup, "docs");
    let stand_in = StandIn::default();
    let runner = runner(&setup, &stand_in);
    let server = answer_one(listener);
    let report = run_by_hand(&runner, "nightly");
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    let (line, headers, body) = server.join().unwrap();
    assert_eq!(line, "POST /hook HTTP/1.1");
    assert!(
        headers.contains(&"authorization: Bearer 1234".to_owned()),
        "{headers:?}"
    );
    assert_eq!(std::fs::read_to_string(&told).unwrap(), body);
    let message: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(message["state"]["status"], "AVAILABLE");
    assert_eq!(message["buildVersion"], 1);
    assert_eq!(message["buildType"], "USER_INITIATED");
    assert_eq!(message["osVersion"], "Tiny 1");
    assert_eq!(message["imageRecipe"]["name"], "Web Server");
    assert_eq!(message["infrastructureConfiguration"]["name"], "small");
    assert_eq!(
        message["imageTestsConfigurationDocument"]["imageTestsEnabled"],
        false
    );
    assert!(
        message["sourcePipelineArn"]
            .as_str()
            .unwrap()
            .ends_with("image-pipeline/nightly")
    );
    assert!(
        Utf8Path::new(message["local"]["folder"].as_str().unwrap())
            .join("manifest.json")
            .is_file()
    );
    // The logs are copied beside the documents, as the infrastructure says; a relative path starts there.
    let copied = setup
        .path()
        .join("docs/logs/web-server/1.0.0/1/infrastructure.json");
    let notes: Value = serde_json::from_str(&std::fs::read_to_string(copied).unwrap()).unwrap();
    assert_eq!(notes["instanceType"], "t3.nano");
    // A failure is told too; the webhook is gone by then, which changes nothing.
    *stand_in.failures.lock().unwrap() = ["the disk is full"].into();
    let report = run_by_hand(&runner, "nightly");
    assert_eq!(report.outcome, RunOutcome::Failed);
    assert!(
        report
            .warnings
            .iter()
            .any(|line| line.contains("was not told")),
        "{:?}",
        report.warnings
    );
    let message: Value = serde_json::from_str(&std::fs::read_to_string(&told).unwrap()).unwrap();
    assert_eq!(message["state"]["reason"], "the disk is full");
}

#[test]
fn a_policy_ages_images() {
    let setup = home_with_base();
    write_documents(&setup);
    setup.file(
        "docs/policy.yml",
        "
kind: LifecyclePolicy
name: tidy
executionRole: unused
resourceType: AMI_IMAGE
policyDetails:
- action: {type: DELETE, includeResources: {amis: true}}
  filter: {type: COUNT, value: 2}
- action: {type: DEPRECATE}
  filter: {type: COUNT, value: 1}
resourceSelection:
  recipes: [{name: Web Server, semanticVersion: x.x.x}]
",
    );
    apply(&setup, "docs");
    let stand_in = StandIn::default();
    let runner = runner(&setup, &stand_in);
    for _ in 0..3 {
        run_by_hand(&runner, "nightly");
    }
    let folder = |build: u32| {
        runner
            .store
            .find_image(&format!("web-server/1.0.0/{build}"))
            .unwrap()
            .folder
    };
    let states = || -> Vec<String> {
        (1..=3)
            .map(|build| {
                let image = format!("web-server/1.0.0/{build}");
                runner.store.find_image(&image).unwrap().state.to_string()
            })
            .collect()
    };
    let preview = setup
        .run(&["lifecycle", "preview", "tidy", "--json"])
        .expect(0);
    let preview: Value = serde_json::from_str(&preview.stdout).unwrap();
    let actions: Vec<&str> = preview["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|decision| decision["action"].as_str().unwrap_or("keep"))
        .collect();
    assert_eq!(actions, ["DELETE", "DEPRECATE", "keep"]);
    assert_eq!(states(), ["AVAILABLE"; 3]);
    setup.run(&["lifecycle", "run"]).expect(0);
    assert_eq!(states(), ["DELETED", "DEPRECATED", "AVAILABLE"]);
    assert_eq!(
        [1, 2, 3].map(|build| folder(build).exists()),
        [false, true, true]
    );
    // Again there is nothing to do.
    let again = setup.run(&["lifecycle", "run", "tidy", "--json"]).expect(0);
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(again[0]["results"], serde_json::json!([]));
    let history = setup
        .run(&["lifecycle", "history", "tidy", "--json"])
        .expect(0);
    let history: Value = serde_json::from_str(&history.stdout).unwrap();
    assert_eq!(history.as_array().unwrap().len(), 2);
    assert_eq!(history[1]["results"][0]["action"], "DELETE");
}

#[test]
fn scanning_of_a_pipeline_looks_up_vulnerabilities_without_a_threshold() {
    let setup = home_with_base();
    write_documents(&setup);
    let home = Home::at(setup.home()).unwrap();
    let store = Arc::new(Store::open(&home).unwrap());
    let scanning = |enabled: bool| {
        let text =
            format!("{PIPELINE}imageScanningConfiguration: {{imageScanningEnabled: {enabled}}}\n");
        setup.file("docs/pipeline.yml", &text);
        apply(&setup, "docs");
        let pipeline = resolve::find(&store, "nightly").unwrap();
        let resolved = resolve::resolve(&store, &home, &pipeline).unwrap();
        resolved.plan.vulnerabilities
    };
    assert_eq!(scanning(false), None);
    let check = scanning(true).unwrap();
    assert_eq!((check.policy.fail_on, check.state), (None, None));
    assert_eq!(check.database, home.vulnerabilities());
}

#[test]
fn guest_a_pipeline_builds_an_image() {
    let setup = setup::with_base();
    write_documents(&setup);
    setup.file(
        "docs/recipe.yml",
        &RECIPE.replace("parentImage: tiny", "parentImage: debian-12"),
    );
    let told = setup.path().join("told.json");
    setup.file(
        "docs/infrastructure.yml",
        &format!("{INFRASTRUCTURE}local:\n  memory: 1GiB\n  notifications:\n  - command: [sh, -c, 'cat > {told}']\n"),
    );
    // What is distributed stays on this machine.
    setup.file(
        "docs/distribution.yml",
        "kind: DistributionConfiguration\nname: here\nlocal: {destinations: [{name: shelf, folder: {path: shelf, layout: versioned}}]}\n",
    );
    apply(&setup, "docs");
    // In the background: the answer is the image's ARN.
    let started = setup
        .run(&["pipeline", "run", "nightly", "--json"])
        .expect(0);
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let arn = started["run"]["image"].as_str().unwrap().to_owned();
    assert!(arn.ends_with("image/web-server/1.0.0/1"), "{arn}");
    // A second one at the same time is refused.
    setup
        .run(&["pipeline", "run", "nightly", "--wait"])
        .expect(3)
        .says("is running");
    let outcome = wait_for("the run to end", Duration::from_secs(600), || {
        let shown = setup
            .run(&["pipeline", "show", "nightly", "--json"])
            .expect(0);
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
        let outcome = shown["runs"][0]["outcome"].as_str().unwrap().to_owned();
        (outcome != "RUNNING").then_some((outcome, shown["runs"][0]["reason"].clone()))
    });
    assert_eq!(outcome, ("SUCCEEDED".to_owned(), Value::Null));
    let message: Value = serde_json::from_str(&std::fs::read_to_string(&told).unwrap()).unwrap();
    assert_eq!(message["arn"], arn.as_str());
    assert!(
        message["osVersion"]
            .as_str()
            .unwrap()
            .starts_with("Debian GNU/Linux 12")
    );
    assert!(
        made_of(&setup, "web-server/1.0.0/1").contains(&"component greeting/1.0.0/1".to_owned())
    );
    // Nothing is newer, so that a scheduled run would have nothing to do.
    let rehearsed = setup
        .run(&["pipeline", "run", "nightly", "--dry-run"])
        .expect(0);
    assert!(
        rehearsed.stdout.contains("nothing is newer"),
        "{}",
        rehearsed.stdout
    );
    // The component gets a newer version: the next run takes it, as the next build of the image.
    setup.file(
        "docs/component.yml",
        &COMPONENT
            .replace("WORD", "good day")
            .replace("semanticVersion: 1.0.0", "semanticVersion: 1.1.0"),
    );
    apply(&setup, "docs");
    let shelf = setup.path().join("docs/shelf");
    assert!(shelf.join("web-server/1.0.0/1/manifest.json").is_file());
    // A distribution that fails leaves the image, and only the distribution is done again.
    let away = setup.path().join("docs/away");
    std::fs::rename(&shelf, &away).unwrap();
    std::fs::write(&shelf, "a file").unwrap();
    setup
        .run(&["pipeline", "run", "nightly", "--wait"])
        .expect(8)
        .says("destination shelf");
    std::fs::remove_file(&shelf).unwrap();
    std::fs::rename(&away, &shelf).unwrap();
    setup
        .run(&["image", "retry", "web-server/1.0.0/2"])
        .expect(0);
    assert!(shelf.join("web-server/1.0.0/2/manifest.json").is_file());
    let shown = setup
        .run(&["image", "show", "web-server/1.0.0/2", "--json"])
        .expect(0);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["image"]["state"], "AVAILABLE");
    assert!(
        made_of(&setup, "web-server/1.0.0/2").contains(&"component greeting/1.1.0/1".to_owned())
    );
    let packages = setup
        .run(&["image", "packages", "web-server/1.0.0/2", "--json"])
        .expect(0);
    let packages: Value = serde_json::from_str(&packages.stdout).unwrap();
    let packages = packages.as_array().unwrap();
    assert!(packages.len() > 100, "{}", packages.len());
    assert!(packages.iter().any(|package| package["name"] == "dpkg"));
    // What differs is what was changed.
    let diff = setup
        .run(&[
            "image",
            "diff",
            "web-server/1.0.0/1",
            "web-server/1.0.0/2",
            "--json",
        ])
        .expect(1);
    let diff: Value = serde_json::from_str(&diff.stdout).unwrap();
    let names = |key: &str| -> Vec<&str> {
        diff[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|difference| difference["what"].as_str().unwrap())
            .collect()
    };
    assert_eq!(names("packages"), Vec::<&str>::new());
    assert_eq!(names("files"), ["/etc/greeting"]);
    assert!(
        names("inputs").iter().any(|what| what.contains("greeting")),
        "{diff}"
    );
    setup.assert_nothing_left();
}
