//! W
use crate::config::Config;
use crate::decide::Outcome;
use crate::run::{Halt, Run};
use crate::stream::ActionsStream;
use backstack_engine::EngineError;
use backstack_producer::rows::Rows;
/// W
#[derive(Debug)]
pub struct Workflow;
impl Workflow {
    /// o
    pub async fn open(_c: &Config, _r: Rows, _s: ActionsStream) -> Result<Self, EngineError> {
        Ok(Self)
    }
    /// p
    pub async fn perform(&self, _r: &Run) -> Result<Outcome, Halt> {
        Ok(Outcome::Done {
            message: String::new(),
            result: Default::default(),
        })
    }
}
