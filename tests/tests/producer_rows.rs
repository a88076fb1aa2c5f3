//! Rows against a real server: expected revisions, lists, watches, restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use backstack_producer::rows::{Created, Keys, RowError, RowEvent, Updated, Watch, Write};
use backstack_producer::topology::ensure;
use backstack_producer::{Rows, api};
use backstack_schemas::Topology;
use backstack_schemas::topology::{Bucket, Choices};
use backstack_tests::World;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

/// A server with its buckets.
async fn buckets() -> (World, Rows) {
    let world = World::start().await;
    let rows = rows(&world).await;
    (world, rows)
}

async fn rows(world: &World) -> Rows {
    Rows::new(world.connection().await, Topology::default())
}

#[tokio::test]
async fn a_row_is_made_once_and_the_second_maker_sees_the_first_ones() {
    let (_world, rows) = buckets().await;
    let made = rows
        .create(Bucket::Jobs, "web.a", &json!("first"))
        .await
        .unwrap();
    let Created::Made(revision) = made else {
        panic!("{made:?}");
    };
    match rows
        .create(Bucket::Jobs, "web.a", &json!("second"))
        .await
        .unwrap()
    {
        Created::Exists(row) => {
            assert_eq!((row.value, row.revision), (json!("first"), revision));
        }
        made => panic!("{made:?}"),
    }
    let read = rows
        .get::<Value>(Bucket::Jobs, "web.a")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((read.value, read.revision), (json!("first"), revision));
    assert!(rows.clock().now() >= read.at);
    assert_eq!(
        rows.get::<Value>(Bucket::Jobs, "web.b").await.unwrap(),
        None
    );
    assert_eq!(
        rows.get_leader::<Value>(Bucket::Jobs, "web.b")
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn of_two_updates_of_one_revision_one_is_lost_and_told_where_the_row_is() {
    let (_world, rows) = buckets().await;
    let first = rows.put(Bucket::Jobs, "web.a", &json!(1)).await.unwrap();
    let two = rows
        .update(Bucket::Jobs, "web.a", &json!(2), first)
        .await
        .unwrap();
    let three = rows
        .update(Bucket::Jobs, "web.a", &json!(3), first)
        .await
        .unwrap();
    let Updated::Done(revision) = two else {
        panic!("{two:?}");
    };
    assert_eq!(
        three,
        Updated::Lost {
            revision: Some(revision)
        }
    );
    let row = rows
        .get_leader::<Value>(Bucket::Jobs, "web.a")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((row.value, row.revision), (json!(2), revision));
}

#[tokio::test]
async fn a_deleted_row_can_be_made_again_but_not_updated() {
    let (_world, rows) = buckets().await;
    let first = rows.put(Bucket::Repos, "web", &json!(1)).await.unwrap();
    let lost = rows
        .delete_expecting(Bucket::Repos, "web", first + 7)
        .await
        .unwrap();
    assert_eq!(
        lost,
        Updated::Lost {
            revision: Some(first)
        }
    );
    let gone = rows
        .delete_expecting(Bucket::Repos, "web", first)
        .await
        .unwrap();
    assert!(matches!(gone, Updated::Done(_)));
    assert_eq!(rows.get::<Value>(Bucket::Repos, "web").await.unwrap(), None);
    assert_eq!(
        rows.get_leader::<Value>(Bucket::Repos, "web")
            .await
            .unwrap(),
        None
    );
    let late = rows
        .update(Bucket::Repos, "web", &json!(2), first)
        .await
        .unwrap();
    assert!(matches!(late, Updated::Lost { .. }));
    let again = rows.create(Bucket::Repos, "web", &json!(3)).await.unwrap();
    assert!(matches!(again, Created::Made(_)));
}

/// What a deletion leaves behind goes by itself, and no older revision comes back when it does.
#[tokio::test]
async fn a_deletion_leaves_one_marker_with_an_end() {
    let (_world, rows) = buckets().await;
    for n in 0..3 {
        rows.put(Bucket::Repos, "web", &json!(n)).await.unwrap();
    }
    rows.delete(Bucket::Repos, "web").await.unwrap();
    let stream = rows.topology().bucket_stream(Bucket::Repos);
    let info = api::ask(
        rows.client(),
        &format!("STREAM.INFO.{stream}"),
        &Value::Null,
    )
    .await;
    assert_eq!(info.unwrap()["state"]["messages"], 1);
    let last = json!({ "last_by_subj": rows.topology().key_subject(Bucket::Repos, "web") });
    let stored = api::ask(rows.client(), &format!("STREAM.MSG.GET.{stream}"), &last)
        .await
        .unwrap();
    let headers = STANDARD
        .decode(stored["message"]["hdrs"].as_str().unwrap())
        .unwrap();
    let headers = String::from_utf8(headers).unwrap();
    assert!(headers.contains("Nats-TTL: 86400"), "{headers}");
}

#[tokio::test]
async fn thousands_of_rows_are_written_and_listed_quickly() {
    let (_world, rows) = buckets().await;
    let key = |i: usize| format!("web.feature/{i:05}");
    let writes = (0..5_000).map(|i| Write::put(key(i), &json!({ "n": i })).expecting(0));
    let results = rows.write_all(Bucket::Branches, writes).await;
    assert!(results.iter().all(|r| matches!(r, Ok(Updated::Done(_)))));
    rows.put(Bucket::Branches, "other.main", &json!({ "n": 0 }))
        .await
        .unwrap();
    rows.delete(Bucket::Branches, &key(7)).await.unwrap();

    let began = Instant::now();
    let of_web = Keys::Of("web".parse().unwrap());
    let listed = rows
        .list_leader::<Value>(Bucket::Branches, &of_web)
        .await
        .unwrap();
    let took = began.elapsed();
    assert_eq!(listed.rows.len(), 4_999);
    assert_eq!(listed.rows[&key(4_999)].value, json!({ "n": 4_999 }));
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(
        rows.list::<Value>(Bucket::Branches, &of_web).await.unwrap(),
        listed
    );
    let all = rows
        .list::<Value>(Bucket::Branches, &Keys::All)
        .await
        .unwrap();
    assert_eq!(all.rows.len(), 5_000);
}

#[tokio::test]
async fn writes_of_a_batch_are_lost_one_by_one() {
    let (_world, rows) = buckets().await;
    rows.put(Bucket::Branches, "web.b", &json!(0))
        .await
        .unwrap();
    let writes = ["web.a", "web.b", "web.c"].map(|key| Write::put(key, &json!(1)).expecting(0));
    let results = rows.write_all(Bucket::Branches, writes).await;
    let done: Vec<_> = results
        .into_iter()
        .map(|r| matches!(r, Ok(Updated::Done(_))))
        .collect();
    assert_eq!(done, [true, false, true]);
}

#[tokio::test]
async fn a_row_that_does_not_parse_is_named_and_hurts_no_other() {
    let (_world, rows) = buckets().await;
    let subject = rows.topology().key_subject(Bucket::Jobs, "web.bad");
    rows.client()
        .publish(subject, Bytes::from_static(b"{not json"))
        .await
        .unwrap();
    rows.put(Bucket::Jobs, "web.good", &json!(1)).await.unwrap();

    let error = rows
        .get_leader::<Value>(Bucket::Jobs, "web.bad")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, RowError::Unreadable { key, .. } if key == "web.bad"),
        "{error}"
    );
    let listed = rows.list::<Value>(Bucket::Jobs, &Keys::All).await.unwrap();
    assert_eq!(listed.rows.len(), 1);
    assert!(listed.unreadable.contains_key("web.bad"));
    let mut watch = rows.watch::<Value>(Bucket::Jobs, Keys::All).await.unwrap();
    let first = next(&mut watch).await;
    assert!(
        matches!(first, RowEvent::Unreadable { ref key, .. } if key == "web.bad"),
        "{first:?}"
    );
    assert!(matches!(next(&mut watch).await, RowEvent::Row { .. }));
    assert_eq!(next(&mut watch).await, RowEvent::Initialised);
}

#[tokio::test]
async fn a_list_of_nothing_is_empty_at_once() {
    let (_world, rows) = buckets().await;
    let began = Instant::now();
    assert!(
        rows.list::<Value>(Bucket::Tasks, &Keys::All)
            .await
            .unwrap()
            .rows
            .is_empty()
    );
    assert!(
        rows.list_leader::<Value>(Bucket::Tasks, &Keys::All)
            .await
            .unwrap()
            .rows
            .is_empty()
    );
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_told_as_such() {
    let world = World::blank().await;
    let rows = rows(&world).await;
    let errors = [
        rows.get::<Value>(Bucket::Jobs, "web.a")
            .await
            .map(drop)
            .unwrap_err(),
        rows.list::<Value>(Bucket::Jobs, &Keys::All)
            .await
            .map(drop)
            .unwrap_err(),
        rows.watch::<Value>(Bucket::Jobs, Keys::All)
            .await
            .map(drop)
            .unwrap_err(),
        rows.put(Bucket::Jobs, "web.a", &json!(1))
            .await
            .map(drop)
            .unwrap_err(),
    ];
    for error in errors {
        assert!(error.is_missing_bucket(), "{error}");
    }
}

#[tokio::test]
async fn a_watch_tells_what_is_there_and_then_every_change() {
    let (_world, rows) = buckets().await;
    rows.put(Bucket::Jobs, "web.a", &json!(1)).await.unwrap();
    rows.put(Bucket::Jobs, "web.a", &json!(2)).await.unwrap();
    rows.put(Bucket::Jobs, "api.b", &json!(3)).await.unwrap();
    rows.put(Bucket::Jobs, "web.c", &json!(4)).await.unwrap();
    rows.delete(Bucket::Jobs, "web.c").await.unwrap();

    let of_web = Keys::Of("web".parse().unwrap());
    let mut watch = rows.watch::<Value>(Bucket::Jobs, of_web).await.unwrap();
    assert_eq!(
        value(next(&mut watch).await),
        ("web.a".to_owned(), json!(2))
    );
    assert_eq!(next(&mut watch).await, RowEvent::Initialised);
    rows.put(Bucket::Jobs, "web.d", &json!(5)).await.unwrap();
    assert_eq!(
        value(next(&mut watch).await),
        ("web.d".to_owned(), json!(5))
    );
    rows.delete(Bucket::Jobs, "web.d").await.unwrap();
    assert!(matches!(next(&mut watch).await, RowEvent::Deleted { key, .. } if key == "web.d"));
}

#[tokio::test]
async fn a_watch_of_nothing_is_initialised_at_once() {
    let (_world, rows) = buckets().await;
    let mut watch = rows.watch::<Value>(Bucket::Jobs, Keys::All).await.unwrap();
    assert_eq!(next(&mut watch).await, RowEvent::Initialised);
}

/// The server is killed and started again several times while rows are written: the watch sees every
/// row's last value, never a revision twice and never one out of order.
#[tokio::test]
async fn a_watch_survives_a_server_that_is_killed() {
    let (world, rows) = buckets().await;
    let mut watch = rows.watch::<Value>(Bucket::Jobs, Keys::All).await.unwrap();
    assert_eq!(next(&mut watch).await, RowEvent::Initialised);
    let mut seen = BTreeMap::new();
    let mut newest = 0;
    for round in 0..3 {
        for i in 0..50 {
            put_until_acknowledged(&rows, &format!("web.{i}"), &json!([round, i])).await;
        }
        world.server().kill9().await;
        world.server().restart().await.unwrap();
        put_until_acknowledged(&rows, "web.last", &json!(round)).await;
        while seen.get("web.last") != Some(&json!(round)) {
            if let RowEvent::Row { key, row } = next(&mut watch).await {
                assert!(row.revision > newest, "{} after {newest}", row.revision);
                newest = row.revision;
                seen.insert(key, row.value);
            }
        }
        for i in 0..50 {
            assert_eq!(seen[&format!("web.{i}")], json!([round, i]));
        }
    }
}

#[tokio::test]
async fn a_watch_notices_a_bucket_made_anew() {
    let (world, rows) = buckets().await;
    for n in 0..20 {
        rows.put(Bucket::Jobs, "web.old", &json!(n)).await.unwrap();
    }
    let mut watch = rows.watch::<Value>(Bucket::Jobs, Keys::All).await.unwrap();
    assert_eq!(value(next(&mut watch).await).1, json!(19));
    assert_eq!(next(&mut watch).await, RowEvent::Initialised);

    let stream = rows.topology().bucket_stream(Bucket::Jobs);
    let delete = format!("STREAM.DELETE.{stream}");
    api::ask(rows.client(), &delete, &Value::Null)
        .await
        .unwrap();
    ensure(rows.client(), rows.topology(), Choices::default())
        .await
        .unwrap();
    rows.put(Bucket::Jobs, "web.new", &json!(1)).await.unwrap();
    world.server().kill9().await;
    world.server().restart().await.unwrap();

    assert_eq!(next(&mut watch).await, RowEvent::Reset);
    assert_eq!(value(next(&mut watch).await).0, "web.new");
    assert_eq!(next(&mut watch).await, RowEvent::Initialised);
}

/// A reader that does nothing for a while finds everything when it comes back, and the connection
/// works for others meanwhile.
#[tokio::test]
async fn a_reader_that_dawdles_loses_nothing() {
    let (_world, rows) = buckets().await;
    let mut watch = rows
        .watch::<Value>(Bucket::Branches, Keys::All)
        .await
        .unwrap();
    let writes = (0..20_000).map(|i| Write::put(format!("web.{i}"), &json!(i)));
    let results = rows.write_all(Bucket::Branches, writes).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(next(&mut watch).await, RowEvent::Initialised);
    let mut seen = BTreeSet::new();
    while seen.len() < 20_000 {
        assert!(seen.insert(value(next(&mut watch).await).0), "each once");
    }
}

async fn put_until_acknowledged(rows: &Rows, key: &str, row: &Value) {
    while let Err(error) = rows.put(Bucket::Jobs, key, row).await {
        assert!(error.is_transient(), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn next(watch: &mut Watch<Value>) -> RowEvent<Value> {
    let event = timeout(SOON, watch.next_event()).await;
    event.expect("an event soon").expect("a watch never ends")
}

fn value(event: RowEvent<Value>) -> (String, Value) {
    match event {
        RowEvent::Row { key, row } => (key, row.value),
        other => panic!("a row was expected: {other:?}"),
    }
}
