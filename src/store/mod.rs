//! State: the home with its folders, and the record of every build.

mod home;

pub use home::Home;

use crate::bake::{BakePlan, Identity, plan::normalise, recorder::Ledger};
use crate::error::Result;
use crate::events::{StepKind, StepOutcome};
use camino::Utf8PathBuf;
struct Nothing;
impl Ledger for Nothing {
    fn state(&self, _: &str, _: Option<&str>) -> Result<()> {
        Ok(())
    }
    fn step(&self, _: StepKind, _: StepOutcome, _: f64, _: &str) -> Result<()> {
        Ok(())
    }
}
impl Home {
    pub fn begin_image(&self, plan: &BakePlan) -> Result<(Identity, Box<dyn Ledger>)> {
        let name = normalise(&plan.name);
        let mut build = 1;
        while self
            .logs()
            .join(&name)
            .join(&plan.version)
            .join(build.to_string())
            .exists()
        {
            build += 1;
        }
        let logs = self
            .logs()
            .join(&name)
            .join(&plan.version)
            .join(build.to_string());
        std::fs::create_dir_all(&logs).unwrap();
        Ok((
            Identity {
                run: format!("{}", uuid::Uuid::new_v4()),
                build,
                arn: format!(
                    "arn:ovenbird:imagebuilder:local:self:image/{name}/{}/{build}",
                    plan.version
                ),
                target: plan.destination.clone().unwrap_or_else(|| {
                    self.images()
                        .join(&name)
                        .join(&plan.version)
                        .join(build.to_string())
                }),
                runs: self.runs(),
                logs,
            },
            Box::new(Nothing),
        ))
    }
    pub fn logs_of(&self, build: &str) -> Result<Utf8PathBuf> {
        let f = self.logs().join(build);
        if f.exists() {
            Ok(f)
        } else {
            Err(crate::cli::logs::unknown(build))
        }
    }
}
