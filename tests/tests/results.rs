//! What a job's row tells as JSON: every field of the contract, exactly.

use backstack_schemas::topology::{Bucket, job_key};
use backstack_schemas::{Job, Repository, Timestamp};
use backstack_tests::{Scene, Worker, World};
use serde_json::{Value, json};

/// The job's row as its bucket has it.
async fn raw(scene: &Scene, job: &Job) -> Value {
    let key = job_key(&job.spec.repo, job.spec.job_id);
    scene.world.row(Bucket::Jobs, &key).await.unwrap()
}

#[tokio::test]
async fn the_result_of_a_restack_has_every_field() {
    let scene = Scene::start(
        "main <- a: a1 <- b: b1; main <- c: c1{f=c} <- d: d1; main <- e: e1 <- g: g1; main <- h: h1",
    )
    .await;
    let remote = &scene.remote;
    let old = remote.head("main");
    remote.commit("main", &[("f", "m\n")], "m1");
    remote.commit("main", &[("e1", "e1\n"), ("e2", "e2\n")], "e1 and more");
    remote.squash_merge("a");
    remote.delete("h");
    let heads = ["b", "g", "c"].map(|branch| remote.head(branch));
    let dropped = remote.head("e");
    let job = scene.run("sync_repo restack").await;
    let row = raw(&scene, &job).await;
    let trunk = remote.head("main");
    assert_eq!(
        row["result"],
        json!({
            "moved": [
                {"branch": "b", "from": heads[0], "to": remote.head("b")},
                {"branch": "g", "from": heads[1], "to": remote.head("g")},
            ],
            "up_to_date": [],
            "conflicts": [{
                "branch": "c",
                "commit": heads[2],
                "onto": trunk,
                "paths": [{"path": "f", "kind": "add_add"}],
            }],
            "skipped": [
                {"branch": "h", "reason": "missing_on_remote"},
                {"branch": "d", "reason": "parent_conflict"},
            ],
            "merged": [
                {"branch": "a", "into": "main", "how": "patch_id"},
                {"branch": "e", "into": "main", "how": "became_empty"},
            ],
            "reparented": [
                {"branch": "b", "from": "a", "to": "main"},
                {"branch": "g", "from": "e", "to": "main"},
            ],
            "dropped_commits": [{"branch": "e", "commit": dropped, "reason": "became_empty"}],
            "registered": null,
            "trunk": {"branch": "main", "from": old, "to": trunk},
            "truncated": false,
        })
    );
    assert_eq!(row["status"], "error");
    assert_eq!(row["error"]["code"], "conflict");
    assert_eq!(row["error"]["retryable"], false);
}

#[tokio::test]
async fn the_result_of_a_registering_has_parent_base_and_head() {
    let scene = Scene::start("main <- a: a1").await;
    scene.remote.stack("a <- b: b1");
    let job = scene.run("register_existing_branch branch=b").await;
    let (a, b) = (scene.remote.head("a"), scene.remote.head("b"));
    assert_eq!(
        raw(&scene, &job).await["result"],
        json!({
            "moved": [], "up_to_date": [], "conflicts": [], "skipped": [], "merged": [],
            "reparented": [], "dropped_commits": [],
            "registered": {"branch": "b", "parent": "a", "base": a, "head": b},
            "trunk": null, "truncated": false,
        })
    );
}

#[tokio::test]
async fn each_way_of_conflicting_is_named() {
    let base = "main: m1{both=1,gone=1,kept=1}";
    let a = "a: a1{both=a,gone=a,-kept,added=a}";
    let scene = Scene::start(&format!("{base} <- {a}")).await;
    scene.remote.stack("main: m2{both=m,-gone,kept=m,added=m}");
    let said = scene.act("restack_repo").await;
    let paths = "added add_add, both content, gone modify_delete, kept modify_delete";
    assert_eq!(
        said,
        format!("conflict! trunk m1..m2; conflicts a(a1 onto m2: {paths})")
    );
}

/// The row of a refused action has no result, since nothing was done.
#[tokio::test]
async fn what_was_refused_has_no_result() {
    let scene = Scene::start("main <- a: a1").await;
    let job = scene.run("reparent_branch branch=a parent=a").await;
    let row = raw(&scene, &job).await;
    assert_eq!(
        (&row["status"], &row["result"]),
        (&json!("error"), &Value::Null)
    );
    assert_eq!(row["error"]["code"], "cycle");
}

#[tokio::test]
async fn the_job_row_tells_its_message_its_run_and_its_course() {
    let scene = Scene::start("main <- a: a1").await;
    scene.remote.stack("main: m1");
    let job = scene.run("restack_subtree branch=a requested_by=ann").await;
    let row = raw(&scene, &job).await;
    assert_eq!(
        [
            &row["action"],
            &row["branch"],
            &row["requested_by"],
            &row["status"]
        ],
        [
            &json!("restack_subtree"),
            &json!("a"),
            &json!("ann"),
            &json!("completed")
        ]
    );
    assert_eq!(
        [&row["attempt"], &row["run"], &row["sequence"]],
        [&json!(1), &json!(1), &json!(2)]
    );
    let course: Vec<_> = row["transitions"].as_array().unwrap().iter().collect();
    let course: Vec<_> = course
        .iter()
        .map(|change| change["status"].as_str().unwrap())
        .collect();
    assert_eq!(course, ["queued", "running", "completed"]);
    assert_eq!(row["error"], Value::Null);
    assert_eq!(row["message"], "1 branch restacked and pushed");
}

/// A repository added without a trunk gets the remote's `HEAD`, and keeps it.
#[tokio::test]
async fn a_trunk_that_nobody_named_is_the_remotes_default_branch() {
    let world = World::start().await;
    let remote = world.remote("web");
    remote.stack("main <- develop: d1");
    remote.git(&["symbolic-ref", "HEAD", "refs/heads/develop"]);
    let at = Timestamp::from_unix_millis(0).unwrap();
    let url = remote.url().parse().unwrap();
    let row = Repository::new("web".parse().unwrap(), url, None, at);
    world.put_row(Bucket::Repos, "web", &row).await;
    let _worker = Worker::start(&world, &[]).await;
    let job = world.run("web", "sync_repo", "").await;
    assert_eq!(job.error, None);
    let row = world.repository("web").await.unwrap();
    assert_eq!(row.trunk, Some("develop".parse().unwrap()));
    assert!(world.branch("web", "develop").await.unwrap().is_trunk);
    remote.git(&["symbolic-ref", "HEAD", "refs/heads/main"]);
    world.run("web", "sync_repo", "").await;
    let row = world.repository("web").await.unwrap();
    assert_eq!(row.trunk, Some("develop".parse().unwrap()));
}

#[tokio::test]
async fn a_replayed_commit_keeps_author_and_message_and_gets_the_services_committer() {
    let scene = Scene::start("main <- a").await;
    scene
        .remote
        .commit("a", &[("f", "f\n")], "subject\n\nbody\n\nTrailer: x");
    let show = |format: &str| {
        scene
            .remote
            .git(&["log", "-1", &format!("--format={format}"), "a"])
    };
    let kept = "%an %ae %ad%n%B";
    let before = show(kept);
    scene.remote.stack("main: m1");
    assert_eq!(scene.act("restack_repo").await, "trunk m0..m1; moved a");
    assert_eq!(show(kept), before);
    assert_eq!(show("%cn <%ce>"), "Backstack <backstack@example.com>");
    let dates = show("%ct %at");
    let (committed, authored) = dates.split_once(' ').unwrap();
    assert!(committed > authored, "{dates}");
}
