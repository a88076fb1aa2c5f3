//! `backstack doctor`

use backstack_schemas::RepoId;
use clap::Args;
use serde_json::json;

use super::exit::Failure;
use super::output::Output;
use crate::connect::ConnectOptions;
use crate::doctor::{Finding, examine};

#[derive(Args, Debug)]
pub(super) struct Doctor {
    /// The repository to try publishing for, where the user may publish for one alone
    repo: Option<RepoId>,
}

impl Doctor {
    pub(super) async fn run(self, options: &ConnectOptions, out: &Output) -> Result<(), Failure> {
        let findings = examine(options, self.repo.as_ref()).await;
        for finding in &findings {
            print(finding, out)?;
        }
        let problems = findings.iter().filter(|finding| !finding.is_ok()).count();
        match problems {
            0 => Ok(()),
            1 => Err(Failure::Unavailable(
                "there is a problem; see above".to_owned(),
            )),
            n => Err(Failure::Unavailable(format!(
                "there are {n} problems; see above"
            ))),
        }
    }
}

fn print(finding: &Finding, out: &Output) -> Result<(), Failure> {
    if out.json {
        out.row(&json!({
            "ok": finding.is_ok(),
            "what": finding.what,
            "remedy": finding.remedy,
        }))?;
    } else {
        let text = match &finding.remedy {
            None => out.screen.ok_line(&finding.what),
            Some(remedy) => out.screen.problem_line(&finding.what, remedy),
        };
        out.text(&text)?;
    }
    Ok(())
}
