//! The process that hosts actors, and the means to start and kill it.

use crate::scenario::{Gate, Worker, WorkerActor};
use crate::teller::TickingActor;
use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
};
use webmesh::{Anyone, Mesh, PeerRef};

const ROLE: &str = "WEBMESH_TEST_HOST";

/// Not a test of its own: the body of the host process, which the scenarios start.
#[test]
fn host_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (data, listen) = role.split_once(' ').unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mesh =
            Mesh::builder().data_dir(data).listen(listen.parse().unwrap()).start().await.unwrap();
        let gate = Gate::default();
        let private = mesh.spawn({
            let gate = gate.clone();
            move || WorkerActor::new(gate.clone(), None)
        });
        for name in ["fast-1", "fast-2", "slow"] {
            let worker = mesh.spawn({
                let (gate, private) = (gate.clone(), private.clone());
                move || {
                    let mut actor = WorkerActor::new(gate.clone(), Some(private.clone()));
                    actor.waits_at_gate = name == "slow";
                    actor
                }
            });
            let _: &webmesh::ActorRef<Worker> = &worker;
            mesh.publish(name, &worker).allow(Anyone).await.unwrap();
        }
        let sink = mesh.spawn(TickingActor::default);
        mesh.publish("sink", &sink).allow(Anyone).await.unwrap();
        println!("\nHOST {}", mesh.peer_ref());
        // The test holds the other end of standard input: when it ends, so does this process.
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()))
            .await
            .unwrap()
            .unwrap();
        mesh.shutdown().await;
    });
}

/// A started host process.
pub(crate) struct Host {
    process: Child,
    pub(crate) peer_ref: PeerRef,
}

impl Host {
    pub(crate) fn start(data: &Path, listen: &str) -> Host {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "host::host_process", "--nocapture"])
            .env(ROLE, format!("{} {listen}", data.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let peer_ref = loop {
            let line = lines.next().unwrap().unwrap();
            if let Some(text) = line.strip_prefix("HOST ") {
                break text.parse().unwrap();
            }
        };
        // What else it prints is shown by this test's own output.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = writeln!(std::io::stderr(), "host: {line}");
            }
        });
        Host { process, peer_ref }
    }

    pub(crate) fn address(&self) -> String {
        self.peer_ref.addresses()[0].to_string()
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// SIGKILL: no goodbye.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Highest resident memory of this process so far, in MiB.
pub(crate) fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}
