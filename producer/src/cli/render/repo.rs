//! The list of repositories.

use backstack_schemas::{Repository, SyncStatus, Timestamp};

use super::{Screen, Table, ago, clean};

/// Repositories as a table.
pub fn repo_table(repos: &[Repository], screen: Screen, now: Timestamp) -> String {
    let mut table = Table::new(screen, &["REPO", "TRUNK", "SYNC", "URL"]);
    for repo in repos {
        table.row([
            screen.bold(repo.repo.as_str()),
            repo.trunk.as_ref().map_or_else(
                || screen.dim("not known yet"),
                |trunk| clean(trunk.as_str()).into_owned(),
            ),
            sync_words(repo, screen, now),
            clean(repo.remote_url.as_str()).into_owned(),
        ]);
    }
    table.lines(screen)
}

/// How fresh its branches are.
pub(super) fn sync_words(repo: &Repository, screen: Screen, now: Timestamp) -> String {
    let sync = &repo.sync;
    match (sync.status, sync.synced_at) {
        (SyncStatus::Error, _) => screen.bad("sync failed"),
        (SyncStatus::Running, _) => screen.busy("syncing"),
        (SyncStatus::Queued, _) => "sync queued".to_owned(),
        (SyncStatus::Pending, None) => screen.dim("never synced"),
        (SyncStatus::Pending | SyncStatus::Synced, Some(at)) => format!("synced {}", ago(at, now)),
        (SyncStatus::Synced, None) => "synced".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use backstack_schemas::Sync;

    use super::super::fixtures::at;
    use super::*;

    #[test]
    fn repositories_as_a_table() {
        let web = Repository {
            sync: Sync {
                status: SyncStatus::Synced,
                synced_at: Some(at(0)),
                ..Sync::default()
            },
            ..Repository::new(
                "web".parse().unwrap(),
                "https://git.example/web.git".parse().unwrap(),
                Some("main".parse().unwrap()),
                at(0),
            )
        };
        let new = Repository::new(
            "backend-api".parse().unwrap(),
            "git@git.example:api.git".parse().unwrap(),
            None,
            at(0),
        );
        insta::assert_snapshot!(repo_table(&[web, new], Screen::plain(), at(130)), @r"
        REPO         TRUNK          SYNC           URL
        web          main           synced 2m ago  https://git.example/web.git
        backend-api  not known yet  never synced   git@git.example:api.git
        ");
    }
}
