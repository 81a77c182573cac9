//! Tests of the crash tests' own tools: what the shim records and breaks, and what the replayed
//! disk holds. The child of each test is this binary again, running the script in an environment
//! variable.

use rusqlite::Connection;
use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

pub mod faults;

use faults::{Call, Disk, Fail, Faults, Injected, Lost, Op, Shim, Sticky, Trace, disk::Names};

const SCRIPT: &str = "SKPROXY_SELFTEST_SCRIPT";

/// A directory to write in, a trace, a ledger.
struct Bench {
    root: TempDir,
    faults: Faults,
}

impl Bench {
    fn new() -> Self {
        let root = TempDir::new().expect("a directory");
        let dir = root.path().join("data");
        fs::create_dir(&dir).expect("a directory");
        let faults = Faults {
            dirs: vec![dir],
            trace: Some(root.path().join("trace")),
            mark: Some(root.path().join("ledger")),
            ..Faults::default()
        };
        Self { root, faults }
    }

    fn dir(&self) -> PathBuf {
        self.faults.dirs[0].canonicalize().expect("the directory is there")
    }

    /// Runs the script in a child under the shim; what it printed.
    fn run(&self, script: &str) -> String {
        let shim = Shim::build().expect("the shim builds");
        let mut child = Command::new(env::current_exe().expect("this binary"));
        child.args(["--exact", "the_child_runs_its_script", "--nocapture"]);
        child.env(SCRIPT, script).current_dir(self.root.path());
        let output = shim.load(&mut child, &self.faults).output().expect("the child starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn trace(&self) -> Trace {
        let path = self.faults.trace.as_deref().expect("a trace is asked for");
        Trace::read(path).expect("the trace reads")
    }

    /// The disk after the whole trace, names relative to the data directory.
    fn cut(&self, lost: Lost) -> Vec<(String, Vec<u8>)> {
        let trace = self.trace();
        self.shown(Disk::default().after(&trace, trace.records.len(), lost))
    }

    fn shown(&self, disk: Disk) -> Vec<(String, Vec<u8>)> {
        let dir = self.dir();
        let name = |path: PathBuf| match path.strip_prefix(&dir) {
            Ok(inner) => inner.display().to_string(),
            Err(_) => path.display().to_string(),
        };
        disk.files.into_iter().map(|(path, content)| (name(path), content)).collect()
    }
}

/// One step: `create F`, `write F OFFSET TEXT`, `append F TEXT`, `truncate F LEN`, `sync F`,
/// `rename F G`, `link F G`, `unlink F`, `copy F G`, `persist F TEXT`, `mark TEXT`, `sql F ROWS`.
/// Files are in `data/`.
fn step(words: &[&str]) -> io::Result<()> {
    let at = |name: &str| Path::new("data").join(name);
    let open = |name: &str| OpenOptions::new().read(true).write(true).open(at(name));
    match *words {
        ["create", name] => File::create(at(name)).map(drop),
        ["write", name, offset, text] => {
            let offset = offset.parse().map_err(io::Error::other)?;
            open(name)?.write_all_at(text.as_bytes(), offset)
        }
        ["append", name, text] => {
            OpenOptions::new().append(true).open(at(name))?.write_all(text.as_bytes())
        }
        ["truncate", name, len] => open(name)?.set_len(len.parse().map_err(io::Error::other)?),
        ["sync", name] => File::open(at(name))?.sync_all(),
        ["rename", from, to] => fs::rename(at(from), at(to)),
        ["link", from, to] => fs::hard_link(at(from), at(to)),
        ["unlink", name] => fs::remove_file(at(name)),
        ["persist", name, text] => persist(&at(name), text),
        ["copy", from, to] => fs::copy(at(from), at(to)).map(drop),
        ["mark", text] => mark(text),
        ["sql", name, rows] => sql(&at(name), rows.parse().map_err(io::Error::other)?),
        _ => Err(io::Error::other(format!("no such step: {words:?}"))),
    }
}

/// Writes, syncs and renames through tempfile, which makes its system calls through rustix.
fn persist(path: &Path, text: &str) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::with_prefix_in("new-", "data")?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open("data")?.sync_all()
}

fn mark(text: &str) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open("ledger")?.write_all(text.as_bytes())
}

/// Commits rows 1 to `rows`, each with a mark once SQLite calls it committed.
fn sql(path: &Path, rows: u32) -> io::Result<()> {
    let commit = || -> rusqlite::Result<()> {
        let books = Connection::open(path)?;
        books.pragma_update(None, "journal_mode", "wal")?;
        books.pragma_update(None, "synchronous", "full")?;
        books.execute("create table book (row integer primary key, text blob)", ())?;
        for row in 1..=rows {
            books.execute("insert into book values (?1, zeroblob(700))", (row,))?;
            mark(&format!("{row}")).expect("the ledger is written");
        }
        Ok(())
    };
    commit().map_err(io::Error::other)
}

#[test]
fn the_child_runs_its_script() {
    let Ok(script) = env::var(SCRIPT) else { return };
    for line in script.split(';').map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        match step(&words) {
            Ok(()) => println!("[{line}: ok]"),
            Err(error) => println!("[{line}: {error}]"),
        }
    }
}

/// Checks what survives a cut after the whole script.
#[track_caller]
fn survives(script: &str, expect: &[(&str, &str)]) {
    let bench = Bench::new();
    bench.run(script);
    let found = bench.cut(Lost::All);
    let found: Vec<_> =
        found.iter().map(|(n, c)| (n.as_str(), std::str::from_utf8(c).expect("text"))).collect();
    assert_eq!(found, expect, "{script}");
}

#[test]
fn the_trace_is_in_program_order() {
    let bench = Bench::new();
    bench.run(
        "create a; write a 0 hello; append a +; sync a; mark 1; truncate a 2; rename a b; \
         link b c; sync .; unlink b; mark 2",
    );
    let dir = bench.dir();
    let write = |offset, text: &str| Op::Write { offset, data: text.as_bytes().to_vec() };
    let expect = [
        ("a", Op::Create { emptied: false }),
        ("a", write(0, "hello")),
        ("a", write(5, "+")),
        ("a", Op::Sync),
        ("../ledger", Op::Mark(b"1".to_vec())),
        ("a", Op::Truncate(2)),
        ("a", Op::Rename(dir.join("b"))),
        ("b", Op::Link(dir.join("c"))),
        ("", Op::DirSync),
        ("b", Op::Unlink),
        ("../ledger", Op::Mark(b"2".to_vec())),
    ];
    let trace = bench.trace();
    let found: Vec<_> = trace.records.iter().map(|record| record.op.clone()).collect();
    assert_eq!(found, expect.clone().map(|(_, op)| op));
    for (record, (name, _)) in trace.records.iter().zip(&expect) {
        let name = dir.join(name);
        let parent = name.parent().expect("a parent").canonicalize().expect("it is there");
        assert_eq!(record.path.file_name(), name.file_name(), "{record:?}");
        assert!(record.path.starts_with(&parent) || record.path == dir, "{record:?}");
    }
    let marks: Vec<_> = trace.marks().collect();
    assert_eq!(marks, [(4, &b"1"[..]), (10, &b"2"[..])]);
    assert_eq!(trace.syncs().collect::<Vec<_>>(), [3, 8]);
    assert_eq!(trace.sync_before(&dir.join("a"), 4), Some(3));
    assert_eq!(trace.sync_before(&dir.join("b"), 10), None);
}

#[test]
fn files_elsewhere_are_not_traced() {
    let bench = Bench::new();
    bench.run("create ../other; write ../other 0 x; sync ../other");
    assert_eq!(bench.trace().records, []);
}

#[test]
fn a_copied_file_is_traced_like_a_written_one() {
    survives("create a; append a text; copy a b; sync b", &[("a", ""), ("b", "text")]);
}

#[test]
fn a_rename_through_rustix_is_seen() {
    survives("persist a 1; persist a 2", &[("a", "2")]);
}

#[test]
fn what_was_not_synced_is_lost() {
    survives("create a; append a 1; sync a; append a 2", &[("a", "1")]);
    survives("create a; append a 1; sync a; write a 0 2", &[("a", "1")]);
    survives("create a; append a 12; sync a; truncate a 1", &[("a", "12")]);
    survives("create a; append a 12; sync a; truncate a 1; sync a", &[("a", "1")]);
    survives("create a; append a 1; sync a; create a", &[("a", "1")]);
    survives("create a; append a 1", &[]);
    survives("create a; append a 1; sync .", &[("a", "")]);
}

#[test]
fn names_reach_the_disk_in_order() {
    survives("create a; append a 1; sync a; rename a b", &[("a", "1")]);
    survives("create a; append a 1; sync a; rename a b; sync .", &[("b", "1")]);
    survives("create a; append a 1; rename a b; sync b", &[("b", "1")]);
    survives("create a; sync a; unlink a", &[("a", "")]);
    survives("create a; sync a; unlink a; sync .", &[]);
    survives("create a; sync a; unlink a; create b; sync b", &[("b", "")]);
}

#[test]
fn a_strict_disk_wants_the_directory_synced() {
    let bench = Bench::new();
    bench.run("create a; append a 1; sync a");
    let trace = bench.trace();
    let cut = |names| Disk::default().after_with(&trace, trace.records.len(), Lost::All, names);
    assert_eq!(bench.shown(cut(Names::Journalled)), [("a".to_owned(), b"1".to_vec())]);
    assert_eq!(bench.shown(cut(Names::Strict)), []);
}

#[test]
fn a_replay_goes_on_from_the_disk_before_the_trace() {
    let bench = Bench::new();
    fs::write(bench.dir().join("old"), "old").expect("written");
    let before = Disk::read(&bench.dir()).expect("read");
    bench.run("append old +; sync old; append old lost");
    let trace = bench.trace();
    let after = before.after(&trace, trace.records.len(), Lost::All);
    let copy = bench.root.path().join("copy");
    after.write_to(&bench.dir(), &copy).expect("written");
    assert_eq!(fs::read(copy.join("old")).expect("read"), b"old+");
}

#[test]
fn a_seed_decides_what_a_cut_keeps_and_tears() {
    let bench = Bench::new();
    bench.run("create a; sync a");
    let mut trace = bench.trace();
    let path = bench.dir().join("a");
    let data = vec![7; 4096];
    trace.records.push(faults::Record { path, op: Op::Write { offset: 100, data } });
    let cut = |seed| {
        let disk = Disk::default().after(&trace, trace.records.len(), Lost::Seeded(seed));
        disk.files.into_values().next().expect("the file was synced")
    };
    let all: Vec<_> = (0..64).map(cut).collect();
    assert_eq!(all, (0..64).map(cut).collect::<Vec<_>>(), "a seed says the same twice");
    assert!(all.iter().any(Vec::is_empty), "some drop it");
    assert!(all.iter().any(|kept| kept.len() == 4196 && !kept[100..].contains(&0)), "some keep it");
    let torn = |kept: &Vec<u8>| {
        let sectors = kept.get(512..).unwrap_or_default().chunks(512);
        let whole = sectors.clone().all(|sector| sector.iter().all(|byte| *byte == sector[0]));
        whole && sectors.clone().any(|s| s[0] == 0) && sectors.clone().any(|s| s[0] == 7)
    };
    assert!(all.iter().any(torn), "some tear it at a sector");
}

/// Checks what a script meets and what its trace ends up holding.
#[track_caller]
fn injects(fail: Fail, script: &str, says: &[&str], content: &str) {
    let mut bench = Bench::new();
    bench.faults.fail = Some(fail);
    let output = bench.run(script);
    for line in says {
        assert!(output.contains(line), "{fail}: no {line} in {output}");
    }
    assert_eq!(fs::read_to_string(bench.dir().join("a")).expect("read"), content, "{fail}");
}

#[test]
fn the_nth_call_fails_as_asked() {
    let fail = |call, nth, error| Fail { call, nth, error, sticky: Sticky::Once };
    let full = "No space left on device (os error 28)";
    let broken = "Input/output error (os error 5)";
    let script = "create a; append a 1; append a 2; append a 3; sync a; sync a";
    let says = [format!("[append a 2: {full}]"), "[append a 3: ok]".to_owned()];
    let says = says.each_ref().map(String::as_str);
    injects(fail(Call::Write, 2, Injected::Enospc), script, &says, "13");
    let says = [format!("[append a 1: {broken}]"), "[append a 2: ok]".to_owned()];
    let says = says.each_ref().map(String::as_str);
    injects(fail(Call::Write, 1, Injected::Eio), script, &says, "23");
    let sticky = Fail { sticky: Sticky::FromThenOn, ..fail(Call::Write, 2, Injected::Enospc) };
    let says = [format!("[append a 2: {full}]"), format!("[append a 3: {full}]")];
    let says = says.each_ref().map(String::as_str);
    injects(sticky, script, &says, "1");
    // std writes the other half after a short write, in a second call.
    let script = "create a; append a 12345678";
    injects(fail(Call::Write, 1, Injected::Short), script, &["8: ok]"], "12345678");
    let says = format!("[sync a: {broken}]");
    injects(fail(Call::Sync, 1, Injected::Eio), "create a; append a 1; sync a", &[&says], "1");
}

#[test]
fn a_failed_sync_syncs_nothing_and_a_later_one_does_not_mend_it() {
    let mut bench = Bench::new();
    bench.faults.fail =
        Some(Fail { call: Call::Sync, nth: 2, error: Injected::Eio, sticky: Sticky::Once });
    bench.run("create a; append a 1; sync a; append a 2; sync a; sync a");
    let failed: Vec<_> = bench.trace().indices(|op| *op == Op::SyncFailed).collect();
    assert_eq!(failed, [4]);
    assert_eq!(bench.cut(Lost::All), [("a".to_owned(), b"1".to_vec())]);
}

/// Marks that a cut belied: the row was acknowledged and is gone. One entry a cut.
fn broken_promises(bench: &Bench, lost: Lost) -> Vec<usize> {
    bench.run("sql books 12");
    let trace = bench.trace();
    let marks: Vec<_> = trace.marks().map(|(index, _)| index).collect();
    assert_eq!(marks.len(), 12);
    let upto = |index: &usize| index + 1;
    marks
        .iter()
        .enumerate()
        .filter(|(done, mark)| {
            let copy = TempDir::new().expect("a directory");
            let disk = Disk::default().after(&trace, upto(mark), lost);
            disk.write_to(&bench.dir(), copy.path()).expect("written");
            rows(&copy.path().join("books")) <= *done
        })
        .map(|(done, _)| done)
        .collect()
}

/// Rows in the books; none when they cannot be read.
fn rows(path: &Path) -> usize {
    let count = |books: Connection| {
        books.query_row("select count(*) from book", (), |row| row.get::<_, u32>(0))
    };
    let count = Connection::open(path).and_then(count).unwrap_or(0);
    usize::try_from(count).expect("a small count")
}

#[test]
fn sqlite_keeps_what_it_committed_through_a_power_cut() {
    for lost in std::iter::once(Lost::All).chain((0..8).map(Lost::Seeded)) {
        assert_eq!(broken_promises(&Bench::new(), lost), Vec::<usize>::new(), "{lost:?}");
    }
}

#[test]
fn without_its_syncs_sqlite_loses_what_it_committed() {
    let mut bench = Bench::new();
    bench.faults.skip_sync = true;
    assert_eq!(broken_promises(&bench, Lost::All).len(), 12);
}
