// The action's main step: it becomes the Go binary next to this file, or starts
// it and passes on its streams, signals and exit status. It has no dependencies
// and decides nothing about identity: the binary does. Modules that only a build
// or a second process needs are loaded there: together they take several milliseconds.
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

// The binary's exit statuses: 1 for a fault of the machine, 2 for one of the user.
class Failure extends Error {
  constructor(message, status = 1) {
    super(message);
    this.status = status;
  }
}

const windows = process.platform === 'win32';
const programName = windows ? 'oidc-dbt.exe' : 'oidc-dbt';

// Text from outside must not become a workflow command: the runner obeys
// "::name::" at the start of a line, and "##[name]" anywhere in one.
function printable(text) {
  return text.replace(/[^\t\n\P{C}]|[\u2028\u2029]/gu, '?').replace(/##\[/g, '## [');
}

// print writes at once: process.stdout may keep text for later, which replace
// would lose, and makes a pipe non-blocking, which the binary would inherit.
function print(text) {
  for (let rest = Buffer.from(text); rest.length > 0; ) {
    try {
      rest = rest.subarray(fs.writeSync(1, rest));
    } catch (err) {
      if (err.code !== 'EAGAIN') throw err;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10); // a full pipe that was non-blocking before
    }
  }
}

function annotate(level, text) {
  const data = printable(text).replace(/%/g, '%25').replace(/\n/g, '%0A');
  print(`::${level}::${data}\n`);
}

// binaryName uses the runner's names (RUNNER_OS and RUNNER_ARCH, in lower
// case), but asks node: in a container job the binary runs where node does, and
// on a self-hosted runner the variables may have any value.
function binaryName() {
  const system = { linux: 'linux', darwin: 'macos', win32: 'windows' }[process.platform];
  const arch = { x64: 'x64', arm64: 'arm64' }[process.arch];
  if (!system || !arch) {
    throw new Failure(`no binary for ${process.platform} ${process.arch}: there are binaries for Linux, macOS and Windows on x64 and arm64`, 2);
  }
  return `oidc-dbt-${system}-${arch}${windows ? '.exe' : ''}`;
}

// folder makes a folder under RUNNER_TEMP. The binary adds its own folder to
// PATH, which must therefore contain nothing else.
function folder(name) {
  const temp = process.env.RUNNER_TEMP;
  if (!temp || /[\r\n]/.test(temp)) {
    throw new Failure('RUNNER_TEMP is not set: the action runs as a step of a workflow', 2);
  }
  const dir = path.join(temp, name);
  fs.mkdirSync(dir, { recursive: true, mode: 0o755 });
  return dir;
}

const damaged = 'the download is damaged, run the job again';

// checkFormat finds a file that was damaged on its way, such as a page of text,
// before it replaces this process. Its bytes are covered by the pinned commit.
function checkFormat(source, name) {
  const start = Buffer.alloc(4);
  const fd = fs.openSync(source, 'r');
  try {
    fs.readSync(fd, start);
  } finally {
    fs.closeSync(fd);
  }
  const want = { linux: '7f454c46', darwin: 'cffaedfe', win32: '4d5a' }[process.platform]; // ELF, Mach-O, PE
  if (!start.toString('hex').startsWith(want)) {
    throw new Failure(`check the binary: dist/${name} is not a program: ${damaged}`);
  }
}

// link gives a release's binary its plain name: a hard link, which costs
// nothing, or a copy where there can be none (another file system, or a
// checkout that lost the executable bit). Two versions have two folders.
function link(dist, name) {
  const source = path.join(dist, name);
  const want = fs.statSync(source, { bigint: true });
  const target = path.join(folder(`oidc-dbt-bin-${want.dev.toString(36)}-${want.ino.toString(36)}`), programName);
  const have = fs.statSync(target, { bigint: true, throwIfNoEntry: false });
  if (have && ((have.dev === want.dev && have.ino === want.ino) || isCopy(have, want))) {
    return target; // an earlier step of this job
  }
  checkFormat(source, name);
  const fresh = temporary(target);
  try {
    if (!windows && (want.mode & 0o111n) === 0n) {
      throw new Error('not executable');
    }
    fs.linkSync(source, fresh);
  } catch {
    fs.copyFileSync(source, fresh);
    fs.chmodSync(fresh, 0o755);
    const time = Number(want.mtimeMs / 1000n);
    fs.utimesSync(fresh, time, time); // for isCopy
  }
  fs.renameSync(fresh, target); // so that a concurrent step never sees half a file
  return target;
}

// isCopy reports whether link has made one file from the other: a copy has the
// same size, and the same time in whole seconds, which every file system keeps.
function isCopy(have, want) {
  return have.size === want.size && have.mtimeMs / 1000n === want.mtimeMs / 1000n;
}

// temporary names a file next to target that no other step uses, in this
// container or another.
function temporary(target) {
  return `${target}.${process.pid}-${process.hrtime.bigint()}`;
}

// bases are the binaries that another one is packed as a difference to (a zstd
// dictionary): on one architecture the code is nearly the same for all systems.
const bases = {
  'oidc-dbt-macos-x64': 'oidc-dbt-linux-x64',
  'oidc-dbt-windows-x64.exe': 'oidc-dbt-linux-x64',
  'oidc-dbt-macos-arm64': 'oidc-dbt-linux-arm64',
  'oidc-dbt-windows-arm64.exe': 'oidc-dbt-linux-arm64',
};

// unpack makes the binary from its packed form, once a job: what is in its folder
// has been checked, and the folder is named after its contents.
function unpack(dist, name) {
  const want = publishedSum(dist, name);
  const target = path.join(folder(`oidc-dbt-bin-${want.slice(0, 16)}`), programName);
  if (fs.existsSync(target)) return target; // an earlier step of this job
  const program = decompress(dist, name, bases[name] && contents(dist, bases[name]));
  const got = require('node:crypto').createHash('sha256').update(program).digest('hex');
  if (got !== want) {
    throw new Failure(`unpack dist/${name}.zst: its SHA-256 is ${got}, dist/SHA256SUMS has ${want}: ${damaged}`);
  }
  const fresh = temporary(target);
  try {
    fs.writeFileSync(fresh, program, { mode: 0o755 });
    fs.chmodSync(fresh, 0o755); // with any umask
    fs.renameSync(fresh, target); // so that a concurrent step never sees half a file
  } catch (err) {
    fs.rmSync(fresh, { force: true });
    // Windows does not replace a program that runs, as a concurrent step's may.
    if (!fs.existsSync(target)) throw new Failure(`unpack dist/${name}.zst: write ${target}: ${err.code || err.message}`);
  }
  return target;
}

// publishedSum returns the SHA-256 of the unpacked binary, which SHA256SUMS lists
// under the name that it has in the release: with Go's names of the platforms.
function publishedSum(dist, name) {
  const asset = name.replace('-macos-', '-darwin-').replace('-x64', '-amd64');
  for (const line of read(dist, 'SHA256SUMS').toString().split(/\r?\n/)) {
    const [, sum, file] = /^([0-9a-f]{64}) [ *](.+)$/.exec(line) || [];
    if (file === asset) return sum;
  }
  throw new Failure(`unpack dist/${name}.zst: dist/SHA256SUMS has no line for ${asset}: ${damaged}`);
}

// contents returns a binary of dist, unpacked if it is packed.
function contents(dist, name) {
  return fs.existsSync(path.join(dist, name)) ? read(dist, name) : decompress(dist, name);
}

// decompress unpacks a file, as a difference to base if there is one. It may take
// half of a file for the whole: the caller checks the result.
function decompress(dist, name, base) {
  const packed = read(dist, `${name}.zst`);
  const zlib = require('node:zlib');
  const [major, minor] = process.versions.node.split('.').map(Number);
  // Node ignores an option that it does not know, and would call the file damaged.
  const old = major === 22 ? minor < 19 : major < 24 || (major === 24 && minor < 6);
  if (!zlib.zstdDecompressSync || (base && old)) {
    throw new Failure(`unpack dist/${name}.zst: node ${process.versions.node} is too old, want 24.6 or later: update the runner to 2.329.0 or later`, 2);
  }
  try {
    return zlib.zstdDecompressSync(packed, { dictionary: base, chunkSize: 1 << 20 });
  } catch (err) {
    throw new Failure(`unpack dist/${name}.zst: ${err.code || err.message}: ${damaged}`);
  }
}

function read(dist, name) {
  try {
    return fs.readFileSync(path.join(dist, name));
  } catch (err) {
    throw new Failure(`read dist/${name}: ${err.code}: ${damaged}`);
  }
}

function inside(dir, file) {
  const relative = path.relative(dir, file);
  return relative === '' || (!path.isAbsolute(relative) && relative.split(path.sep)[0] !== '..');
}

// isLocal reports whether the workflow says `uses: ./…`, so that the action is
// in the workspace and not where the runner downloads actions to.
function isLocal(action) {
  const real = (dir) => {
    try {
      return fs.realpathSync(dir);
    } catch {
      return null;
    }
  };
  const workspace = process.env.GITHUB_WORKSPACE && real(process.env.GITHUB_WORKSPACE);
  const downloads = process.env.RUNNER_TEMP && real(path.join(process.env.RUNNER_TEMP, '..', '_actions'));
  return Boolean(workspace) && inside(workspace, action) && !(downloads && inside(downloads, action));
}

// findGo searches PATH itself: Windows would first take a go.exe from the
// current folder, which is the workspace.
function findGo() {
  for (const dir of (process.env.PATH || '').split(path.delimiter)) {
    const file = path.join(dir, windows ? 'go.exe' : 'go');
    try {
      if (path.isAbsolute(dir) && fs.statSync(file).isFile()) {
        fs.accessSync(file, fs.constants.X_OK);
        return file;
      }
    } catch {
      // not in this folder
    }
  }
  throw new Failure('build from source: go is not on PATH: add a step with actions/setup-go before this one (go-version-file: go.mod), or pin a release of the action, which needs no Go', 2);
}

// goEnvironment is the job's environment with a fixed Go configuration. The
// user's caches and proxies are kept: go.sum verifies what comes from them.
async function goEnvironment(go) {
  const all = Object.entries(process.env);
  // The compiler needs neither the runner's request token nor the inputs.
  const job = all.filter(([name]) => !/^(ACTIONS|INPUT)_/i.test(name));
  const kept = ['GOCACHE', 'GOMODCACHE', 'GOPATH', 'GOPROXY', 'GONOPROXY', 'GOPRIVATE', 'GOSUMDB', 'GONOSUMDB', 'GOAUTH'];
  // Read with the user's own configuration (`go env -w`), which GOENV=off then hides.
  const asked = await run(go, ['env', '-json', ...kept], {
    cwd: process.env.RUNNER_TEMP,
    env: { ...Object.fromEntries(job), GOTOOLCHAIN: 'local', GOWORK: 'off' },
  });
  return {
    ...Object.fromEntries(job.filter(([name]) => !/^(GO|CGO_)[A-Z0-9_]*$/i.test(name))),
    ...Object.fromEntries(Object.entries(JSON.parse(asked.stdout)).filter(([, value]) => value)),
    GOENV: 'off',
    GOFLAGS: '-mod=readonly',
    GOTOOLCHAIN: 'local',
    GOWORK: 'off',
    CGO_ENABLED: '0',
  };
}

// inlining keeps the binary below 24 MiB: gRPC without its debugging pages, and inlined only
// the standard library, which copies and encrypts, and the broker, through which results
// flow. So does the linker's -funcalign. (docs/performance.md)
const inlining = ['-tags=grpcnotrace,nethttpomithttp2', '-gcflags=all=-l', '-gcflags=runtime/...=',
  '-gcflags=internal/...=', '-gcflags=crypto/internal/...=', '-gcflags=go.opentelemetry.io/otel/...=', '-gcflags=github.com/oidc-dbt/oidc-dbt/internal/broker='];

// build compiles the action, once for all steps of a job.
async function build(action) {
  const crypto = require('node:crypto');
  const { GITHUB_RUN_ID, GITHUB_RUN_ATTEMPT, GITHUB_JOB } = process.env;
  const key = crypto.createHash('sha256').update(JSON.stringify([action, GITHUB_RUN_ID, GITHUB_RUN_ATTEMPT, GITHUB_JOB])).digest('hex').slice(0, 16);
  const target = path.join(folder(`oidc-dbt-bin-${key}`), programName);
  if (fs.existsSync(target)) return target;
  const go = findGo();
  print('oidc-dbt: building the action from its source\n');
  const fresh = temporary(target);
  try {
    const env = await goEnvironment(go);
    // -buildvcs=false: git refuses a checkout of another user, and then go fails.
    await run(go, ['build', '-trimpath', '-buildvcs=false', ...inlining, '-ldflags', '-s -w -funcalign=16', '-o', fresh, '.'], { cwd: action, env });
    fs.renameSync(fresh, target);
  } finally {
    fs.rmSync(fresh, { force: true });
  }
  return target;
}

// run runs go and returns its output; its messages are shown only if it fails.
async function run(program, args, options) {
  const out = { stdout: '', stderr: '' };
  const status = await start(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] }, (child) => {
    for (const name of ['stdout', 'stderr']) {
      child[name].setEncoding('utf8');
      child[name].on('data', (text) => {
        out[name] = (out[name] + text).slice(-(64 << 10)); // the end says why it failed
      });
    }
  });
  if (status !== 0) {
    for (const line of out.stderr.trimEnd().split(/\r\n|\r|\n/)) {
      print(`go: ${printable(line)}\n`);
    }
    if (status > 128 && !windows) throw new Failure('build from source: interrupted', status);
    throw new Failure(`build from source: go ${args[0]} exited with status ${status}: see its messages above`);
  }
  return out;
}

// start runs a program to its end and returns its exit status: 128 plus the
// signal's number if a signal ended it. Signals reach node and not its child,
// so they are forwarded. (On Windows the console sends them to both.)
function start(program, args, options, started = () => {}) {
  const { spawn } = require('node:child_process');
  return new Promise((resolve, reject) => {
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
    let child;
    const forward = (signal) => {
      if (!windows && child) child.kill(signal);
    };
    for (const signal of signals) process.on(signal, forward);
    const done = () => {
      for (const signal of signals) process.removeListener(signal, forward);
    };
    child = spawn(program, args, options);
    child.on('error', (err) => {
      done();
      reject(new Failure(`start ${program}: ${err.code || err.message}`));
    });
    child.on('close', (code, signal) => {
      done();
      if (options.detached && signal && !signals.includes(signal)) killed(child, signal);
      resolve(signal ? 128 + os.constants.signals[signal] : code);
    });
    started(child);
  });
}

// killed ends the rest of a program's process group: a command whose credential
// is no longer renewed would go on trying, some for hours.
function killed(child, signal) {
  annotate('error', `oidc-dbt was ended by ${signal}: its command is stopped as well, since its credential can no longer be renewed`);
  try {
    process.kill(-child.pid, 'SIGTERM');
  } catch {
    // nothing is left
  }
}

// replace runs the binary in place of this process: no second process, and
// signals and exit status are the binary's own. It returns only where that is
// impossible. A binary with a command to run stays a child: if it is killed, node
// must be there to say so and to end the command's whole process group.
function replace(program) {
  if (windows || !process.execve || process.env.INPUT_RUN) return;
  try {
    fs.accessSync(program, fs.constants.X_OK); // execve aborts node if it fails
  } catch (err) {
    throw new Failure(`start ${program}: ${err.code}`);
  }
  process.execve(program, [program], process.env);
}

async function binary() {
  const action = fs.realpathSync(__dirname);
  if (process.env.OIDC_DBT_BUILD === '1') return build(action);
  const dist = path.join(action, 'dist');
  const name = binaryName();
  if (fs.existsSync(path.join(dist, name))) return link(dist, name);
  if (fs.existsSync(path.join(dist, `${name}.zst`))) return unpack(dist, name);
  if (isLocal(action)) return build(action);
  if (fs.existsSync(dist)) throw new Failure(`read dist/${name}.zst: ENOENT: ${damaged}`);
  throw new Failure('this commit has no binaries, pin a release: `uses: oidc-dbt/oidc-dbt@<commit of a release> # v1.2.3`; or set OIDC_DBT_BUILD=1 in the step\'s env to build this commit with Go', 2);
}

async function main() {
  try {
    const program = await binary();
    // The post step runs this same binary, or nothing if there is none.
    if (!process.env.GITHUB_STATE) throw new Failure('GITHUB_STATE is not set: the action runs as a step of a workflow', 2);
    fs.appendFileSync(process.env.GITHUB_STATE, `binary=${program}${os.EOL}`);
    replace(program);
    // A process group of its own, for killed; the runner's signals are forwarded.
    process.exitCode = await start(program, [], { stdio: 'inherit', detached: !windows });
  } catch (err) {
    annotate('error', err instanceof Failure ? err.message : `start the action: ${err.message}`);
    process.exitCode = err.status || 1;
  }
}

// post cleans up. It never fails the job.
async function post() {
  const program = process.env.STATE_binary;
  if (!program) return; // main started nothing: there is nothing to clean up
  try {
    const status = await start(program, ['post'], { stdio: 'inherit' });
    if (status !== 0) annotate('warning', `clean up: oidc-dbt post exited with status ${status}`);
  } catch (err) {
    annotate('warning', `clean up: ${err.message}`);
  }
}

module.exports = { post };

if (require.main === module) main();
