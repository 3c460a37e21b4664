//! What the tests of pipelines share: documents, a home, a bake that is played, and time that passes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use camino::Utf8Path;
use jiff::{SignedDuration, Timestamp};
use ovenbird::error::{Failure, FailureKind};
use ovenbird::events::{Event, Reader};
use ovenbird::infrastructure::notification::Pace;
use ovenbird::output::manifest::{self, Manifest};
use ovenbird::pipeline::baker::Order;
use ovenbird::pipeline::due::Watch;
use ovenbird::pipeline::scheduler::Told;
use ovenbird::pipeline::{Baker, Report, Runner, Scheduler, resolve};
use ovenbird::store::{Claim, Home, StartedBy, Store};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::setup::{self, Setup, tool};

pub const COMPONENT: &str = "
kind: Component
name: greeting
semanticVersion: 1.0.0
platform: Linux
data: |
  name: greeting
  schemaVersion: 1.0
  phases:
  - name: build
    steps:
    - name: Greet
      action: ExecuteBash
      inputs: {commands: [\"echo WORD > /etc/greeting\"]}
";

pub const RECIPE: &str = "
kind: ImageRecipe
name: Web Server
semanticVersion: 1.0.0
parentImage: tiny
components:
- componentArn: greeting/1.x.x
";

pub const INFRASTRUCTURE: &str = "
kind: InfrastructureConfiguration
name: small
instanceProfileName: unused
instanceTypes: [x9.huge, t3.nano]
";

pub const DISTRIBUTION: &str = "
kind: DistributionConfiguration
name: here
distributions:
- region: eu-west-1
  amiDistributionConfiguration: {name: 'web {{ imagebuilder:buildDate }}'}
";

pub const PIPELINE: &str = "
kind: ImagePipeline
name: nightly
imageRecipeArn: web-server/x.x.x
infrastructureConfigurationArn: small
distributionConfigurationArn: here
imageTestsConfiguration: {imageTestsEnabled: false}
imageTags: {made-by: nightly}
schedule:
  scheduleExpression: cron(0 2 * * ? *)
  timezone: Europe/Berlin
";

/// Makes a disk the newest version of the base image `tiny`.
#[track_caller]
pub fn import(setup: &Setup, disk: &Utf8Path) {
    setup
        .run(&[
            "base",
            "import",
            disk.as_str(),
            "--name",
            "tiny",
            "--firmware",
            "bios",
        ])
        .expect(0);
}

/// A home with the smallest base image that there can be.
pub fn home_with_base() -> Setup {
    let setup = setup::empty();
    let disk = setup.path().join("tiny.qcow2");
    tool(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", disk.as_str(), "16M"],
    );
    import(&setup, &disk);
    setup
}

pub fn write_documents(setup: &Setup) {
    setup.file("docs/component.yml", &COMPONENT.replace("WORD", "hello"));
    setup.file("docs/recipe.yml", RECIPE);
    setup.file("docs/infrastructure.yml", INFRASTRUCTURE);
    setup.file("docs/distribution.yml", DISTRIBUTION);
    setup.file("docs/pipeline.yml", PIPELINE);
}

#[track_caller]
pub fn apply(setup: &Setup, path: &str) {
    setup.run(&["apply", path]).expect(0);
}

/// Stands in for a guest: does what the bake tells the record, and leaves a manifest.
#[derive(Default)]
pub struct StandIn {
    /// How the next bakes end; well if nothing is said.
    pub failures: Mutex<VecDeque<&'static str>>,
    /// Bakes that go on until they are told to stop.
    pub endless: bool,
    /// The plans that came.
    pub baked: Mutex<Vec<Value>>,
}

impl Baker for &StandIn {
    async fn bake(&self, order: Order) -> Result<String, Failure> {
        order.ledger.state("BUILDING", None)?;
        self.baked.lock().unwrap().push(serde_json::json!({
            "arn": order.identity.arn,
            "cpus": order.plan.machine.cpus,
            "memory": order.plan.machine.memory_mib,
            "tests": order.plan.tests.len(),
            "components": order.plan.components,
        }));
        if self.endless {
            order.cancel.cancelled().await;
            let cancelled = Failure::cancelled();
            order.ledger.state("CANCELLED", Some(&cancelled.chain()))?;
            return Err(cancelled);
        }
        let failure = self.failures.lock().unwrap().pop_front();
        if let Some(reason) = failure {
            order.ledger.state("FAILED", Some(reason))?;
            return Err(Failure::new(FailureKind::Component, reason));
        }
        std::fs::create_dir_all(&order.identity.target).unwrap();
        manifest_of(&order).write(&order.identity.target)?;
        order.ledger.state("AVAILABLE", None)?;
        Ok("Tiny 1".into())
    }
}

fn manifest_of(order: &Order) -> Manifest {
    let plan = &order.plan;
    Manifest {
        manifest_version: manifest::VERSION,
        name: plan.name.clone(),
        version: plan.version.clone(),
        build: order.identity.build,
        arn: order.identity.arn.clone(),
        run: order.identity.run.clone(),
        created: "2026-03-01T00:00:00Z".into(),
        generator: "test".into(),
        architecture: plan.machine.arch,
        firmware: Vec::new(),
        parent: manifest::Parent {
            name: plan.parent.name.clone(),
            version: plan.parent.version.clone(),
            sha256: plan.parent.sha256.clone(),
        },
        components: Vec::new(),
        os: manifest::OsRelease {
            pretty_name: "Tiny 1".into(),
            ..manifest::OsRelease::default()
        },
        packages: Vec::new(),
        sanitised: Vec::new(),
        residue: Vec::new(),
        virtual_size: 0,
        disk_digest: String::new(),
        boots: Vec::new(),
        files: Vec::new(),
        attachments: Vec::new(),
        tags: BTreeMap::new(),
    }
}

struct Silent;

impl Reader for Silent {
    fn event(&self, _: &Event) {}
}

pub fn runner<'s>(setup: &Setup, stand_in: &'s StandIn) -> Runner<&'s StandIn> {
    let home = Home::at(setup.home()).unwrap();
    Runner {
        store: Arc::new(Store::open(&home).unwrap()),
        home,
        baker: stand_in,
        reader: Arc::new(Silent),
        pace: Pace {
            first_pause: Duration::from_millis(5),
        },
    }
}

pub fn wait_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A run by a person, as `pipeline run` does it.
#[track_caller]
pub fn run_by_hand(runner: &Runner<&StandIn>, name: &str) -> Report {
    let pipeline = resolve::find(&runner.store, name).unwrap();
    let now = Timestamp::now();
    let claim = runner
        .store
        .claim_run(
            &pipeline.slug,
            StartedBy::Manual,
            None,
            pipeline.document.local.while_running,
            now,
        )
        .unwrap();
    let Claim::Ours(run) = claim else {
        panic!("{claim:?}");
    };
    wait_on(runner.run(&pipeline, run, StartedBy::Manual, &CancellationToken::new())).unwrap()
}

/// What `scheduler --once` does; `later` makes the record believe that so much time has passed.
pub fn schedule_once(runner: &Runner<&StandIn>, later: SignedDuration) -> Vec<String> {
    pass_time(runner, later);
    let mut told = Vec::new();
    let scheduler = Scheduler {
        runner,
        jobs: 2,
        watch: Watch::Called,
    };
    wait_on(scheduler.run(&CancellationToken::new(), &mut |news| {
        told.push(match news {
            Told::Started { pipeline, .. } => format!("{pipeline} started"),
            Told::Skipped {
                pipeline, reason, ..
            } => format!("{pipeline} skipped: {reason}"),
            Told::Finished(report) => format!("{} {}", report.pipeline, report.outcome),
            Told::Problem { pipeline, problem } => format!("{pipeline}: {problem}"),
        });
    }))
    .unwrap();
    told
}

/// Moves everything that pipelines have on record into the past.
pub fn pass_time(runner: &Runner<&StandIn>, time: SignedDuration) {
    for pipeline in resolve::all(&runner.store).unwrap() {
        runner
            .store
            .pipeline_state(&pipeline.slug, &pipeline.digest, pipeline.since)
            .unwrap();
    }
    let database = rusqlite::Connection::open(runner.home.path().join("store.db")).unwrap();
    database
        .execute_batch(&format!(
            "UPDATE pipeline_state SET anchor = anchor - {0}, checked = checked - {0};
             UPDATE pipeline_run SET due = due - {0}, started = started - {0};",
            time.as_secs()
        ))
        .unwrap();
}
