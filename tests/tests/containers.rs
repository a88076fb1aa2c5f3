//! What the composed containers run, run without them: the script is the same, and so are the programs.

use std::env;
use std::ffi::OsString;
use std::path::Path;

use backstack_tests::program::binaries;
use backstack_tests::{Program, Worker, World};

#[tokio::test]
async fn the_containers_harness_finds_everything_as_it_should_be() {
    let world = World::start().await;
    let _worker = Worker::start(&world, &[]).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/harness.sh");
    let mut path = OsString::from(binaries());
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let variables = [
        ("PATH", path.as_os_str()),
        ("REMOTES", world.dir().as_os_str()),
    ];
    let output = Program::script(&world, &script, &variables).output().await;
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    assert!(
        output.stdout.ends_with("== all of it works\n"),
        "{}",
        output.stdout
    );
}
