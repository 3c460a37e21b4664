//! The test stage: a finished output is booted afresh, as its users will boot it, and the test phases are run in it.

use camino::{Utf8Path, Utf8PathBuf};

use super::components::{self, Order};
use super::copies::{self, Traits};
use super::engine::{as_test_failure, boot_seen, bootstrap, bus_name};
use super::instance::{Instances, Launch, TEST_HOST};
use super::plan::{BakePlan, TestBoot};
use super::provisions::Provisions;
use super::recorder::Recorder;
use crate::error::Result;
use crate::events::StepKind;
use crate::guest::seed::Purpose;
use crate::machine::Boot;
use crate::output::manifest;
use crate::output::planner::OutputPlan;
use crate::output::{OutputFormat, qemu_img};
use crate::words::count;

/// The tests of one image.
pub(super) struct TestStage<'a, 'b> {
    pub plan: &'b BakePlan,
    pub provisions: &'b Provisions,
    pub recorder: &'b Recorder,
    pub instances: &'b mut Instances<'a>,
    /// Where logs go.
    pub logs: Utf8PathBuf,
    /// The build number.
    pub build: u32,
    /// What the first copy says of itself, once it has run.
    pub first: Option<Traits>,
}

impl TestStage<'_, '_> {
    /// Boots the output of a folder once for each test of the plan.
    ///
    /// # Errors
    /// A test failure if it doesn't come up, or a test phase fails.
    pub async fn run(&mut self, folder: &Utf8Path) -> Result<Vec<manifest::Boot>> {
        let plan = self.plan;
        let outputs = OutputPlan::new(&plan.outputs, &plan.stem(self.build));
        let Some(output) = outputs.bootable() else {
            self.recorder
                .events()
                .warn("tests are skipped: no disk output was asked for that could be booted");
            return Ok(Vec::new());
        };
        let source = folder.join(&output.name);
        let driver = output.format.qemu_driver().unwrap_or("raw");
        let mut boots = Vec::new();
        let has_copy = plan.tests.iter().any(|test| test.copy);
        for (index, test) in plan.tests.iter().enumerate() {
            let overlay = self.instances.folder().join(format!("test-{index}.qcow2"));
            let size = match test.copy {
                true => Some(qemu_img::info(&source).await?.virtual_size + copies::LARGER),
                false => None,
            };
            qemu_img::create_overlay(&overlay, &source, driver, size).await?;
            let bus = bus_name(test.bus);
            let mut boot = self.boot(*test, &overlay, output.format).await?;
            if test.components {
                let place = folder
                    .join(super::evidence::FOLDER)
                    .join(format!("{}-{bus}", test.firmware));
                self.apply(&place).await?;
            }
            if has_copy && index == 0 {
                self.first = Some(copies::look(self.instances.guest()?).await?);
            }
            if test.copy {
                boot.purpose = "copy".into();
                boot.differs = self.compare().await?;
            }
            boots.push(boot);
            self.stop().await?;
            let _ = std::fs::remove_file(&overlay);
        }
        Ok(boots)
    }

    async fn boot(
        &mut self,
        test: TestBoot,
        overlay: &Utf8Path,
        output: OutputFormat,
    ) -> Result<manifest::Boot> {
        let recorder = self.recorder;
        let bus = bus_name(test.bus);
        let hostname = if test.copy {
            copies::HOSTNAME
        } else {
            TEST_HOST
        };
        recorder
            .step(
                StepKind::LaunchTestInstance,
                format!("{output} on {bus} by {}", test.firmware),
                async {
                    let launch = Launch {
                        disk: overlay,
                        purpose: Purpose::Test,
                        hostname,
                        firmware: test.firmware,
                        bus: test.bus,
                        boot: Boot::Disk,
                    };
                    let started = self
                        .instances
                        .start(launch)
                        .await
                        .map_err(as_test_failure)?;
                    let detail = format!(
                        "{output} on {bus} by {}: up after {:.1} s",
                        test.firmware, started.seconds
                    );
                    Ok((boot_seen("test", Some(output), &started), detail))
                },
            )
            .await
    }

    /// Runs the test phases; what they leave for people comes to `evidence`, also if they fail.
    async fn apply(&mut self, evidence: &Utf8Path) -> Result<()> {
        let (plan, recorder) = (self.plan, self.recorder);
        if plan
            .components
            .iter()
            .any(|component| component.has_phase("test"))
        {
            let guest = self.instances.guest()?;
            let applied = recorder
                .step(StepKind::ApplyTestComponents, "test phases", async {
                    bootstrap(guest, &plan.components, recorder).await?;
                    let order = Order {
                        components: &plan.components,
                        only: None,
                        phases: &["test".to_owned()],
                        working_directory: &plan.working_directory,
                        provisions: self.provisions,
                    };
                    let step = (StepKind::ApplyTestComponents, recorder);
                    components::run(guest, order, step).await?;
                    let tested = plan
                        .components
                        .iter()
                        .filter(|component| component.has_phase("test"))
                        .count();
                    Ok(((), format!("{} tested", count(tested, "component"))))
                })
                .await;
            let fetched = components::fetch_logs(guest, &self.logs).await;
            let left = components::fetch_evidence(guest, evidence).await;
            applied?;
            fetched?;
            left?;
        }
        Ok(())
    }

    /// Compares the copy that runs with the one before.
    async fn compare(&mut self) -> Result<Vec<String>> {
        let first = self.first.take();
        let guest = self.instances.guest()?;
        self.recorder
            .step(StepKind::CompareCopies, "two copies, two seeds", async {
                let second = copies::look(guest).await?;
                let differs = match &first {
                    Some(first) => copies::compare(first, &second)?,
                    None => Vec::new(),
                };
                let detail = format!("each has its own {}", differs.join(", "));
                Ok((differs, detail))
            })
            .await
    }

    async fn stop(&mut self) -> Result<()> {
        self.recorder
            .step(StepKind::TerminateTestInstance, "stop", async {
                let exit = self.instances.stop().await?;
                Ok(((), exit))
            })
            .await
    }
}
