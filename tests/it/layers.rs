//! Nothing is done twice: counted in the event stream of real bakes.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::setup::{self, Ran, Setup};

fn component(name: &str, commands: &[&str]) -> String {
    let commands: String = commands
        .iter()
        .map(|command| format!("      - '{command}'\n"))
        .collect();
    format!(
        "name: {name}\nschemaVersion: 1.0\nparameters:\n- Word: {{type: string, default: plain}}\nphases:\n\
         - name: build\n  steps:\n  - name: Work\n    action: ExecuteBash\n    inputs:\n      commands:\n      - set -eu\n\
         {commands}- name: validate\n  steps:\n  - name: Look\n    action: ExecuteBash\n    inputs:\n      commands:\n\
         \x20     - 'grep -q \"{name}\" /root/done'\n"
    )
}

fn recipe(word: &str) -> String {
    format!(
        "kind: ImageRecipe\nname: layered\nsemanticVersion: 1.0.0\nparentImage: debian-12\ncomponents:\n\
         - path: first.yml\n- path: second.yml\n  parameters: [{{name: Word, value: [{word}]}}]\n\
         - path: third.yml\n  local: {{files: [{{from: notes, to: /root/notes}}]}}\n\
         local: {{tests: false, memory: 1024}}\n"
    )
}

/// What a bake did, by its event stream.
#[derive(Debug, PartialEq, Eq)]
struct Done {
    machines: Vec<String>,
    built: Vec<String>,
    found: Vec<String>,
    reason: Option<String>,
    image: String,
    said: String,
}

fn build(setup: &Setup, options: &[&str]) -> Done {
    let mut arguments = vec!["build", "r.yml", "--json"];
    arguments.extend(options);
    let ran = setup.run(&arguments).expect(0);
    done(&ran)
}

fn done(ran: &Ran) -> Done {
    let events: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |kind: &'static str| events.iter().filter(move |event| event["type"] == kind);
    let agent = |kind: &'static str| {
        of("agent")
            .map(|event| &event["event"])
            .filter(move |event| event["type"] == kind)
    };
    Done {
        machines: of("machineStarted")
            .map(|event| text(&event["how"]))
            .collect(),
        built: agent("phaseStarted")
            .zip(agent("documentStarted"))
            .filter(|(phase, _)| phase["phase"] == "build")
            .map(|(_, document)| text(&document["name"]))
            .collect(),
        found: of("layer")
            .filter(|event| event["outcome"] == "found")
            .map(|event| text(&event["name"]))
            .collect(),
        reason: of("layer")
            .find(|event| event["outcome"] == "missing")
            .map(|event| text(&event["reason"])),
        image: of("buildFinished")
            .map(|event| text(&event["folder"]))
            .collect(),
        said: agent("output")
            .filter(|event| event["step"] == "Work")
            .map(|event| text(&event["text"]) + "\n")
            .collect(),
    }
}

/// What a guest makes up by itself, each on a line of its own.
const RANDOM: [&str; 7] = [
    "echo third >> /root/done",
    "cat /root/notes/today",
    "cat /proc/sys/kernel/random/uuid",
    "head -c 16 /dev/urandom | od -An -tx1",
    "uuidgen 2>/dev/null || cat /proc/sys/kernel/random/uuid",
    "rm -f /tmp/key; ssh-keygen -q -t ed25519 -N \"\" -f /tmp/key; cat /tmp/key.pub; rm -f /tmp/key /tmp/key.pub",
    "cat /etc/ssh/ssh_host_ed25519_key.pub /home/ovenbird/.ssh/authorized_keys",
];

#[test]
fn guest_nothing_is_done_twice() {
    let setup = setup::with_base();
    setup.file(
        "first.yml",
        &component("first", &["echo first >> /root/done"]),
    );
    setup.file(
        "second.yml",
        &component("second", &["echo \"second {{ Word }}\" >> /root/done"]),
    );
    setup.file("third.yml", &component("third", &RANDOM));
    setup.file("notes/today", "cold\n");
    setup.file("r.yml", &recipe("one"));

    let cold = build(&setup, &[]);
    assert_eq!(cold.machines, ["boot"]);
    assert_eq!(cold.built, ["first", "second", "third"]);
    assert_eq!(cold.reason.as_deref(), Some("never made"));

    // Nothing changed: no guest at all. The bound is generous; the figure is measured by `make bench`.
    let start = Instant::now();
    let again = setup.run(&["build", "r.yml", "--json"]).expect(0);
    assert!(start.elapsed() < Duration::from_secs(5));
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(
        (again["type"].as_str(), again["folder"].as_str()),
        (Some("unchanged"), Some(cold.image.as_str()))
    );
    // Comments, order of keys and the text of later phases are not what a build phase is made from.
    let text = component("second", &["echo \"second {{ Word }}\" >> /root/done"]);
    let text = text.replace("schemaVersion: 1.0\n", "").replace(
        "name: second\n",
        "# a comment\nschemaVersion: 1.0\nname: second\n",
    );
    setup.file("second.yml", &text);
    let plan = setup.run(&["plan", "r.yml", "--json"]).expect(0);
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(plan["boots"], 0, "{plan}");

    // The last component changed: one resume, one component.
    let marked = |mark: &str| {
        let mut commands = RANDOM.to_vec();
        commands.insert(1, mark);
        component("third", &commands)
    };
    setup.file("third.yml", &marked("echo same"));
    let warm = build(&setup, &[]);
    assert_eq!(warm.machines, ["resume"]);
    assert_eq!(warm.built, ["third"]);
    assert_eq!(warm.found, ["boot", "first", "second"]);
    assert_eq!(
        warm.reason.as_deref(),
        Some("the component's build phase changed")
    );

    // A file that it gets changed. Once more from the same memory: what the guest makes up by itself must be other things, its keys as well.
    setup.file("notes/today", "other\n");
    let other = build(&setup, &[]);
    assert_eq!(other.machines, ["resume"]);
    assert_eq!(other.reason.as_deref(), Some("file /root/notes changed"));
    assert!(other.said.contains("other"), "{}", other.said);
    for line in warm
        .said
        .lines()
        .filter(|line| !["same", "cold"].contains(line))
    {
        assert!(
            !other.said.contains(line),
            "{line} came twice:\n{}\n{}",
            warm.said,
            other.said
        );
        assert!(
            !cold.said.contains(line),
            "{line} came twice:\n{}\n{}",
            warm.said,
            cold.said
        );
    }
    assert!(warm.said.lines().count() >= 8, "{}", warm.said);

    // A parameter of the second: the first one stays.
    setup.file("r.yml", &recipe("two"));
    let parameter = build(&setup, &[]);
    assert_eq!(parameter.machines, ["resume"]);
    assert_eq!(parameter.built, ["second", "third"]);
    assert_eq!(
        parameter.reason.as_deref(),
        Some("parameter Word changed from one to two")
    );

    // What would be made again is told, and nothing is done.
    let plan = setup
        .run(&["plan", "r.yml", "--from", "second", "--json"])
        .expect(0);
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(
        plan["steps"][2]["reason"], "it was asked to be made again",
        "{plan}"
    );

    // The same without any layer and memory gives the same image: not one file differs.
    let fresh = build(&setup, &["--no-cache", "--warm", "off", "--timings"]);
    assert_eq!(fresh.machines, ["boot"]);
    assert_eq!(fresh.built, ["first", "second", "third"]);
    let disk = |folder: &str| {
        setup::find(camino::Utf8Path::new(folder), &|path| {
            path.extension() == Some("qcow2")
        })
        .pop()
        .unwrap()
    };
    let diff = setup
        .run(&[
            "disk",
            "diff",
            disk(&parameter.image).as_str(),
            disk(&fresh.image).as_str(),
        ])
        .expect(0);
    assert_eq!(diff.stdout, "");
    let trace = setup::find(&setup.home().join("logs"), &|path| {
        path.as_str().ends_with("/1.0.0/5/trace.json")
    });
    let trace = std::fs::read_to_string(&trace[0]).unwrap();
    let trace: Value = serde_json::from_str(&trace).unwrap();
    let spans: Vec<&str> = trace["traceEvents"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["ph"] == "X" && event["dur"].as_f64() > Some(0.0))
        .map(|event| event["name"].as_str().unwrap())
        .collect();
    for wanted in ["until the kernel runs", "Work (ExecuteBash)", "third"] {
        assert!(spans.contains(&wanted), "{wanted} is not in {spans:?}");
    }
    setup.assert_nothing_left();
}

/// Layers, memories and outputs of a home on a filesystem that is too small: an error that says so, the earlier layers
/// stay, and what was begun goes.
#[test]
fn guest_a_full_disk_is_told_and_costs_only_what_was_begun() {
    let setup = setup::with_base();
    setup.file(
        "first.yml",
        &component("first", &["echo first >> /root/done"]),
    );
    setup.file(
        "second.yml",
        &component(
            "second",
            &["dd if=/dev/urandom of=/root/big bs=1M count=400 status=none; sync"],
        ),
    );
    setup.file(
        "r.yml",
        "kind: ImageRecipe\nname: full\nsemanticVersion: 1.0.0\nparentImage: debian-12\ncomponents:\n\
         - path: first.yml\n- path: second.yml\nlocal: {tests: false, memory: 1024}\n",
    );
    let bases = setup.home().join("bases").canonicalize_utf8().unwrap();
    // A small filesystem in a mount namespace of its own; it goes away with the script.
    let script = format!(
        "set -u\nmkdir -p small\nmount -t tmpfs -o size=330m tmpfs small\nln -s {bases} small/bases\n\
         export OVENBIRD_HOME=$PWD/small\n{program} build r.yml\ncode=$?\n\
         {program} plan r.yml --json > plan.json || exit 99\n\
         find small/cache/layers -name 'layer.json' | wc -l > layers\nls -A small/runs > runs\n\
         df --output=used -B1M small | tail -n 1 > used\nexit $code\n",
        program = setup::program().display(),
    );
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c", &script])
        .current_dir(setup.path())
        .env("NO_COLOR", "1");
    let ran = Ran::of(command.output().unwrap()).expect(4);
    ran.says("the host's disk is full");
    let read = |name: &str| std::fs::read_to_string(setup.path().join(name)).unwrap();
    assert_eq!(
        read("layers").trim(),
        "2",
        "the layers of the boot and of the first component stay"
    );
    assert_eq!(read("runs"), "");
    assert!(
        read("used").trim().parse::<u32>().unwrap() < 280,
        "space is given back: {}",
        read("used")
    );
    let plan: Value = serde_json::from_str(&read("plan.json")).unwrap();
    assert_eq!(
        (&plan["steps"][1]["hit"], &plan["steps"][2]["hit"]),
        (&true.into(), &false.into()),
        "{plan}"
    );
}
