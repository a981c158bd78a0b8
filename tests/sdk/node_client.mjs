// Every operation of the npm SDK that this tenond serves, in one run; prints what came back as JSON.
// usage: node node_client.mjs FOLDER ARCHIVES URL KEY PREFIX
const [folder, archives, url, key, pathPrefix] = process.argv.slice(2);
const { JsBoxlite, BoxliteRestOptions, ApiKeyCredential } = await import(
  `${folder}/node_modules/@boxlite-ai/boxlite/dist/index.js`
);
const got = {};
const runtime = JsBoxlite.rest(new BoxliteRestOptions({ url, credential: new ApiKeyCredential(key), pathPrefix }));

async function drain(stream) {
  let text = "";
  for (let piece; (piece = await stream.next()) !== null; ) text += piece;
  return text;
}

// The streams are there from the start: each is taken before the end is waited for.
async function run(box, command, args, env, options = {}) {
  const x = await box.exec(command, args, env ?? null, false, null, options.timeout ?? null, options.cwd ?? null);
  const [out, err] = await Promise.all([x.stdout(), x.stderr()]);
  if (options.input !== undefined) {
    const stdin = await x.stdin();
    await stdin.write(Buffer.from(options.input));
    await stdin.close();
  }
  if (options.act) await options.act(x);
  const [stdout, stderr, end] = await Promise.all([drain(out), drain(err), x.wait()]);
  return { stdout, stderr, code: end.exitCode, error: end.errorMessage ?? null };
}

async function failure(promise) {
  try {
    await promise;
    return null;
  } catch (e) {
    return String(e.message);
  }
}

// A volume outlives the box that wrote to it; a box without work stops, and comes back with it.
async function volumes() {
  const v = await runtime.volumes.create("node-data");
  const unnamed = await runtime.volumes.create();
  const seen = { id: v.id, name: v.name, createdAt: v.createdAt, unnamed: unnamed.name === unnamed.id };
  seen.listed = (await runtime.volumes.list()).map((i) => i.name).includes("node-data");
  seen.got = (await runtime.volumes.get(v.id)).id;
  await runtime.volumes.remove(unnamed.id);
  seen.missing = await failure(runtime.volumes.remove(unnamed.id));
  await runtime.volumes.remove(unnamed.id, true);
  const mounted = { ...options, volumes: [{ managedVolume: "node-data", guestPath: "/data" }] };
  const writer = await runtime.create(mounted, null);
  await run(writer, "sh", ["-c", "echo kept > /data/file"]);
  seen.used = await failure(runtime.volumes.remove(v.id));
  await runtime.remove(writer.id, true);
  const reader = await runtime.create({ ...mounted, autoStop: 1 }, null);
  seen.file = (await run(reader, "cat", ["/data/file"])).stdout;
  for (let i = 0; i < 200 && (seen.idle = (await reader.info()).state.status) !== "stopped"; i++)
    await new Promise((done) => setTimeout(done, 100));
  seen.again = (await run(reader, "cat", ["/data/file"])).stdout;
  await runtime.remove(reader.id, true);
  seen.nowhere = await failure(runtime.create({ ...options, volumes: [{ managedVolume: "nowhere", guestPath: "/a" }] }, null));
  await runtime.volumes.remove(v.id);
  return seen;
}

const name = `node-${process.pid}`;
const options = { image: "tenon/base", cpus: 1, memoryMib: 192, env: [{ key: "GREETING", value: "hello" }] };
const box = await runtime.create(options, name);
got.created = { id: box.id, name: box.name };
const again = await runtime.getOrCreate(options, name);
got.again = { created: again.created, id: again.box.id };
got.info = await runtime.getInfo(name);
got.boxInfo = await box.info();
got.listed = (await runtime.listInfo()).map((i) => i.id);
got.nobody = await runtime.get("nobody");
got.taken = await failure(runtime.create(options, name));
got.badImage = await failure(runtime.create({ image: "127.0.0.1:1/no/such:image" }, null));
got.secrets = await failure(runtime.create({ ...options, secrets: [{ name: "a", value: "b", hosts: [] }] }, null));

await box.start();
got.running = (await box.info()).state;
got.output = await run(box, "sh", ["-c", "echo out $GREETING $WHO; echo err >&2; exit 3"], [["WHO", "you"]]);
got.input = await run(box, "cat", [], null, { input: "grüße\n" });
got.cwd = await run(box, "pwd", [], null, { cwd: "/tmp" });
got.network = (await run(box, "ls", ["/sys/class/net"])).stdout;
got.big = (await run(box, "sh", ["-c", "yes 0123456789abcde | head -n 65536"])).stdout.length;
got.missing = await failure(box.exec("/no/such", [], null, false));
got.timeout = await run(box, "sleep", ["1000"], null, { timeout: 0.5 });
got.signal = await run(box, "sleep", ["1000"], null, { act: (x) => x.signal(15) });
got.killed = await run(box, "sleep", ["1000"], null, { act: (x) => x.kill() });
got.sig9 = await failure((await box.exec("sleep", ["5"], null, false)).signal(9));
got.boxMetrics = await box.metrics();
got.metrics = await runtime.metrics();

// Disks: of the box while it runs, but for going back.
await run(box, "sh", ["-c", "echo first >/root/value"]);
got.snapshot = await box.snapshot.create("a/b c");
got.snapshotTwice = await failure(box.snapshot.create("a/b c"));
got.snapshots = (await box.snapshot.list()).map((s) => s.name);
got.snapshotGot = await box.snapshot.get("a/b c");
got.snapshotNone = await box.snapshot.get("none");
await run(box, "sh", ["-c", "echo second >/root/value"]);
got.restoreRunning = await failure(box.snapshot.restore("a/b c"));
const copy = await box.cloneBox(null, `${name}-copy`);
got.copy = { id: copy.id, name: copy.name, ...(await run(copy, "cat", ["/root/value"])) };
const file = await copy.export(archives);
await copy.stop();
await runtime.remove(copy.id, false);
const back = await runtime.importBox(file, `${name}-back`);
got.back = { id: back.id, name: back.name, ...(await run(back, "cat", ["/root/value"])) };
await runtime.remove(back.id, true);
await box.stop();
await box.snapshot.restore("a/b c");
got.restored = await run(box, "cat", ["/root/value"]);
await box.snapshot.remove("a/b c");
got.snapshotsAfter = (await box.snapshot.list()).length;
if (runtime.volumes) got.volumes = await volumes();
if (runtime.volumes) {
  const main = { entrypoint: ["sh", "-c"], cmd: ["id -u >/tmp/main; pwd >>/tmp/main; exec sleep 1000"] };
  const own = await runtime.create({ ...options, ...main, user: "65534", workingDir: "/tmp" }, `${name}-main`);
  const script = "until [ $(wc -l </tmp/main) = 2 ]; do sleep 0.05; done 2>/dev/null; cat /tmp/main; id -u; pwd";
  got.main = (await run(own, "sh", ["-c", script])).stdout;
  await runtime.remove(own.id, true);
}

const off = process.argv[2].endsWith("0.9.7") ? { mode: "disabled" } : { outbound: { mode: "disabled" } };
const alone = await runtime.create({ ...options, network: off }, `${name}-alone`);
got.alone = (await run(alone, "ls", ["/sys/class/net"])).stdout;
await runtime.remove(alone.id, true);

got.removeRunning = await failure(runtime.remove(box.id, false));
await box.stop();
got.stopped = (await box.info()).state;
await runtime.remove(box.id, false);
got.gone = await runtime.getInfo(name);
const stranger = JsBoxlite.rest(new BoxliteRestOptions({ url, credential: new ApiKeyCredential("wrong"), pathPrefix }));
got.stranger = await failure(stranger.listInfo());
runtime.close();
console.log(JSON.stringify(got));
process.exit(0);
