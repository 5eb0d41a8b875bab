//! Containers that are told by an API, beside those that only their cgroups tell of.

use palisade_world::Admission;

use super::*;

const RUNS_NOT: fn(u32) -> bool = |_| false;

fn container(id: &str, path: &str, pod: &str) -> Container {
    Container {
        id: ContainerId(id.into()),
        runtime_namespace: "docker".into(),
        pid: 7,
        cgroup: CgroupId(9),
        cgroup_path: path.into(),
        root: None,
        pod: pod.into(),
        namespace: "default".into(),
        name: id.into(),
        image: String::new(),
        labels: BTreeMap::new(),
    }
}

fn started(id: &str, path: &str) -> ContainerChange {
    ContainerChange::Started(container(id, path, "by-api"))
}

fn starting(id: &str, path: &str) -> ContainerChange {
    ContainerChange::Starting(container(id, path, "by-api"), Admission(tokio::sync::oneshot::channel().0))
}

/// What is said by now: `+id(by)`, `?id`, `-id`, `=`.
fn said(changes: &mut Changes) -> Vec<String> {
    let spelt = |change: ContainerChange| match change {
        ContainerChange::Starting(container, _) => format!("?{}", container.id),
        ContainerChange::Started(container) => format!("+{}({})", container.id, container.pod),
        ContainerChange::Stopped(id) => format!("-{id}"),
        ContainerChange::Synchronized => "=".to_owned(),
        ContainerChange::Limited(lacking) => format!("~{lacking:?}"),
    };
    changes.drain(..).map(spelt).collect()
}

fn tree(id: &str, path: &str) -> Container {
    container(id, path, "by-tree")
}

#[test]
fn unit_shares_what_the_api_tells_is_its_own_whichever_came_first() {
    let (mut shares, mut out) = (Shares::default(), Changes::new());
    shares.appeared(tree("a", "/docker/a"), &mut out);
    shares.of_api(started("a", "/docker/a"), false, &mut out);
    shares.of_api(started("b", "/k/b"), false, &mut out);
    shares.appeared(tree("b", "/k/b"), &mut out);
    assert_eq!(said(&mut out), ["+a(by-tree)", "+a(by-api)", "+b(by-api)"]);
    shares.gone(ContainerId("a".into()), &mut out);
    assert_eq!(said(&mut out), Vec::<String>::new(), "the API has not ended it");
    shares.of_api(ContainerChange::Stopped(ContainerId("a".into())), false, &mut out);
    assert_eq!(said(&mut out), ["-a"]);
}

#[test]
fn unit_shares_retell_the_trees_at_each_synchronization() {
    let (mut shares, mut out) = (Shares::default(), Changes::new());
    shares.appeared(tree("a", "/docker/a"), &mut out);
    shares.appeared(tree("b", "/k/b"), &mut out);
    shares.of_api(started("b", "/k/b"), false, &mut out);
    said(&mut out);
    shares.of_api(ContainerChange::Synchronized, false, &mut out);
    assert_eq!(said(&mut out), ["+a(by-tree)", "="]);
    // The API has lost a container whose cgroup lives on: the tree holds it from the next connection on.
    shares.of_api(ContainerChange::Stopped(ContainerId("b".into())), false, &mut out);
    shares.of_api(ContainerChange::Synchronized, false, &mut out);
    assert_eq!(said(&mut out), ["-b", "+a(by-tree)", "+b(by-tree)", "="]);
}

#[test]
fn unit_shares_a_name_within_an_apis_container_makes_no_other_one() {
    let (mut shares, mut out) = (Shares::default(), Changes::new());
    shares.of_api(started("c1", "/default/c1"), false, &mut out);
    shares.appeared(tree("evil", "/default/c1/docker-evil.scope"), &mut out);
    shares.appeared(tree("else", "/default/c11"), &mut out);
    assert_eq!(said(&mut out), ["+c1(by-api)", "+else(by-tree)"]);
    // Also where the tree was first.
    shares.appeared(tree("evil2", "/default/c2/docker-evil.scope"), &mut out);
    shares.of_api(started("c2", "/default/c2"), false, &mut out);
    assert_eq!(said(&mut out), ["+evil2(by-tree)", "-evil2", "+c2(by-api)"]);
}

#[test]
fn unit_shares_an_announced_container_becomes_the_trees_or_ends_with_its_cgroup() {
    let (mut shares, mut out) = (Shares::default(), Changes::new());
    for id in ["runs", "short"] {
        shares.of_api(starting(id, &format!("/libpod-{id}")), true, &mut out);
    }
    shares.sweep(|_, _| true, RUNS_NOT, &mut out);
    assert_eq!(said(&mut out), ["?runs", "?short"]);
    shares.appeared(tree("runs", "/libpod-runs"), &mut out);
    shares.sweep(|path, cgroup| (path, cgroup) != (Path::new("/libpod-short"), CgroupId(9)), RUNS_NOT, &mut out);
    assert_eq!(said(&mut out), ["+runs(by-tree)", "-short"]);
    shares.sweep(|_, _| false, RUNS_NOT, &mut out);
    assert_eq!(said(&mut out), Vec::<String>::new(), "nothing of it is left");
    shares.of_api(ContainerChange::Stopped(ContainerId("runs".into())), true, &mut out);
    assert_eq!(said(&mut out), Vec::<String>::new());
    shares.gone(ContainerId("runs".into()), &mut out);
    assert_eq!(said(&mut out), ["-runs"]);
}

#[test]
fn unit_shares_an_announced_container_that_was_refused_has_ended() {
    let (mut shares, mut out) = (Shares::default(), Changes::new());
    shares.of_api(starting("a", "/libpod-a"), true, &mut out);
    shares.of_api(ContainerChange::Stopped(ContainerId("a".into())), true, &mut out);
    assert_eq!(said(&mut out), ["?a", "-a"]);
}

#[test]
fn unit_shares_the_tree_waits_for_an_api_that_is_there_and_for_none_that_is_away() {
    for away in [false, true] {
        let (mut shares, mut out) = (Shares::deferring(), Changes::new());
        shares.appeared(tree("a", "/docker/a"), &mut out);
        shares.appeared(tree("b", "/k/b"), &mut out);
        assert_eq!(said(&mut out), Vec::<String>::new());
        if away {
            shares.go_on_alone(&mut out);
            assert_eq!(said(&mut out), ["+a(by-tree)", "+b(by-tree)"]);
        } else {
            shares.of_api(started("b", "/k/b"), false, &mut out);
            shares.of_api(ContainerChange::Synchronized, false, &mut out);
            assert_eq!(said(&mut out), ["+b(by-api)", "+a(by-tree)", "="]);
        }
    }
}

#[test]
fn unit_shares_what_ended_while_nobody_looked_is_told_when_all_has_been_seen_again() {
    let (mut shares, mut out) = (Shares::default(), Changes::new());
    shares.appeared(tree("a", "/docker/a"), &mut out);
    shares.appeared(tree("b", "/docker/b"), &mut out);
    said(&mut out);
    shares.look_anew();
    shares.appeared(tree("b", "/docker/b"), &mut out);
    assert_eq!(said(&mut out), ["+b(by-tree)"]);
    shares.looked(&mut out);
    assert_eq!(said(&mut out), ["-a"]);
}

#[test]
fn unit_shares_a_container_outlives_its_first_process_with_whatever_is_left_in_its_cgroup() {
    let (mut shares, mut out) = (Shares::default(), Changes::new());
    let (there, gone) = (|_: &Path, _| true, |_: &Path, _| false);
    let id = || ContainerId("a".into());
    shares.of_api(started("a", "/k/a"), false, &mut out);
    assert!(!shares.lingers(&id(), gone), "nothing is left of most");
    assert!(!shares.lingers(&ContainerId("other".into()), there), "nobody was told of it");
    assert!(shares.lingers(&id(), there));
    shares.appeared(tree("a", "/k/a"), &mut out);
    shares.sweep(there, RUNS_NOT, &mut out);
    shares.of_api(ContainerChange::Synchronized, false, &mut out);
    assert_eq!(said(&mut out), ["+a(by-api)", "+a(by-api)", "="], "one that is not told again would be forgotten");
    shares.sweep(gone, RUNS_NOT, &mut out);
    assert_eq!(said(&mut out), ["-a"]);
    shares.of_api(started("a", "/k/a"), false, &mut out);
    assert!(shares.lingers(&id(), there));
    shares.of_api(started("a", "/k/a"), false, &mut out);
    assert_eq!(said(&mut out), ["+a(by-api)", "-a", "+a(by-api)"], "another run of it ends the one before");
    shares.of_api(ContainerChange::Stopped(id()), false, &mut out);
    shares.sweep(gone, RUNS_NOT, &mut out);
    assert_eq!(said(&mut out), ["-a"], "once");
}

#[test]
fn unit_shares_an_apis_container_ends_without_it_while_it_is_away() {
    let (mut shares, mut out) = (Shares::deferring(), Changes::new());
    for id in ["ended", "moved", "left"] {
        shares.of_api(started(id, &format!("/k/{id}")), false, &mut out);
    }
    shares.of_api(ContainerChange::Synchronized, false, &mut out);
    said(&mut out);
    let left = |path: &Path, _| path == Path::new("/k/left");
    shares.sweep(left, RUNS_NOT, &mut out);
    assert_eq!(said(&mut out), Vec::<String>::new(), "the API will tell");
    shares.go_on_alone(&mut out);
    shares.sweep(left, |_| true, &mut out);
    assert_eq!(said(&mut out), Vec::<String>::new(), "a first process that was moved out of its cgroup is its own");
    shares.sweep(left, RUNS_NOT, &mut out);
    assert_eq!(said(&mut out), ["-ended", "-moved"]);
    shares.of_api(started("left", "/k/left"), false, &mut out);
    shares.of_api(ContainerChange::Synchronized, false, &mut out);
    said(&mut out);
    shares.sweep(|_, _| false, RUNS_NOT, &mut out);
    assert_eq!(said(&mut out), Vec::<String>::new(), "it is back");
}
