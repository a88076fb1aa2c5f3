//! Tasks: one that was just made, and many in a table.

use backstack_schemas::{Task, TaskStatus, Timestamp};

use super::{Screen, Table, ago, clean};

/// What is said of a task that was just made.
pub fn created_task(task: &Task, screen: Screen) -> String {
    let (repo, branch) = (&task.repo, clean(task.branch.as_str()));
    let line = format!(
        "{} task {} on {} {branch}",
        status(task.status, screen),
        task.task_id,
        screen.bold(repo.as_str())
    );
    match task.job_id {
        Some(job) => format!(
            "{line}\n{} backstack job show {repo} {job} --wait",
            screen.dim("its branch is being looked for:")
        ),
        None => line,
    }
}

/// Tasks as a table.
pub fn task_table(tasks: &[Task], screen: Screen, now: Timestamp) -> String {
    let mut table = Table::new(screen, &["STATUS", "TASK", "BRANCH", "AGE", "TITLE"]);
    for task in tasks {
        let mut title = clean(&task.title).into_owned();
        if let (TaskStatus::Error, Some(message)) = (task.status, &task.message) {
            title.push_str(&format!(" ({})", clean(message)));
        }
        table.row([
            status(task.status, screen),
            task.task_id.to_string(),
            screen.bold(&clean(task.branch.as_str())),
            ago(task.created_at, now),
            title,
        ]);
    }
    table.lines(screen)
}

fn status(status: TaskStatus, screen: Screen) -> String {
    match status {
        TaskStatus::Ready => screen.good("ready"),
        TaskStatus::PendingBranchAttach => screen.busy("pending"),
        TaskStatus::Error => screen.bad("error"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::at;
    use super::*;

    fn task(status: TaskStatus) -> Task {
        Task {
            repo: "web".parse().unwrap(),
            task_id: "0199aaaa-0000-7000-8000-00000000000a".parse().unwrap(),
            title: "Login form".to_owned(),
            branch: "feature-a".parse().unwrap(),
            status,
            head: None,
            parent: None,
            job_id: Some("0199aaaa-0000-7000-8000-000000000001".parse().unwrap()),
            message: Some("feature-a is not on the remote".to_owned()),
            created_at: at(0),
            updated_at: at(0),
        }
    }

    #[test]
    fn a_task_whose_branch_is_looked_for_says_where() {
        let task = task(TaskStatus::PendingBranchAttach);
        insta::assert_snapshot!(created_task(&task, Screen::plain()), @r"
        pending task 0199aaaa-0000-7000-8000-00000000000a on web feature-a
        its branch is being looked for: backstack job show web 0199aaaa-0000-7000-8000-000000000001 --wait
        ");
    }

    #[test]
    fn tasks_as_a_table_say_what_went_wrong() {
        let tasks = [task(TaskStatus::Ready), task(TaskStatus::Error)];
        insta::assert_snapshot!(task_table(&tasks, Screen::plain(), at(70)), @r"
        STATUS  TASK                                  BRANCH     AGE     TITLE
        ready   0199aaaa-0000-7000-8000-00000000000a  feature-a  1m ago  Login form
        error   0199aaaa-0000-7000-8000-00000000000a  feature-a  1m ago  Login form (feature-a is not on the remote)
        ");
    }
}
