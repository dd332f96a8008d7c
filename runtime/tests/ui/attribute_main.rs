mod unknown_key {
    #[webmesh::main(threads = 4)]
    async fn main() {}
}

mod unknown_flavor {
    #[webmesh::main(flavor = "local")]
    async fn main() {}
}

mod workers_of_one_thread {
    #[webmesh::main(worker_threads = 4)]
    async fn main() {}
}

mod no_workers {
    #[webmesh::main(flavor = "multi_thread", worker_threads = 0)]
    async fn main() {}
}

mod many_workers {
    #[webmesh::main(flavor = "multi_thread", worker_threads = "four")]
    async fn main() {}
}

mod repeated_key {
    #[webmesh::main(flavor = "multi_thread", flavor = "multi_thread")]
    async fn main() {}
}

mod with_arguments {
    #[webmesh::main]
    async fn start<T>(arguments: Vec<T>) {}
}

mod not_a_function {
    #[webmesh::main]
    struct Main;
}

// Only this error: not also that there is no `main`.
#[webmesh::main]
fn main() {}
