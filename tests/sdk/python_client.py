"""The same as node_client.mjs with the Python SDK that PYTHONPATH names. usage: python_client.py ARCHIVES URL KEY PREFIX"""

import asyncio
import json
import os
import sys
from urllib.parse import urlsplit

import boxlite


async def drain(stream):
    text = ""
    async for piece in stream:
        text += piece if isinstance(piece, str) else piece.decode()
    return text


async def run(box, command, args, env=None, input=None, act=None, **more):
    x = await box.exec(command, args, env, **more)
    out, err = x.stdout(), x.stderr()
    if input is not None:
        stdin = x.stdin()
        await stdin.send_input(input.encode())
        await stdin.close()
    if act:
        await act(x)
    stdout, stderr, end = await asyncio.gather(drain(out), drain(err), x.wait())
    return {"stdout": stdout, "stderr": stderr, "code": end.exit_code, "error": end.error_message}


async def failure(awaitable):
    try:
        await awaitable
        return None
    except Exception as e:
        return str(e)


def options(**more):
    # 0.9 removes a box when it stops unless it is told not to.
    if boxlite.__version__.startswith("0.9"):
        more["auto_remove"] = False
    return boxlite.BoxOptions(image="tenon/base", cpus=1, memory_mib=192, env=[("GREETING", "hello")], **more)


async def volumes(runtime):
    """As in node_client.mjs."""
    v = await runtime.volumes.create("python-data")
    unnamed = await runtime.volumes.create()
    seen = {"id": v.id, "name": v.name, "createdAt": str(v.created_at), "unnamed": unnamed.name == unnamed.id}
    seen["listed"] = "python-data" in [i.name for i in await runtime.volumes.list()]
    seen["got"] = (await runtime.volumes.get(v.id)).id
    await runtime.volumes.remove(unnamed.id)
    seen["missing"] = await failure(runtime.volumes.remove(unnamed.id))
    await runtime.volumes.remove(unnamed.id, True)
    mounted = [{"managed_volume": "python-data", "guest_path": "/data"}]
    writer = await runtime.create(options(volumes=mounted))
    await run(writer, "sh", ["-c", "echo kept > /data/file"])
    seen["used"] = await failure(runtime.volumes.remove(v.id))
    await runtime.remove(writer.id, True)
    reader = await runtime.create(options(volumes=mounted, auto_stop=1))
    seen["file"] = (await run(reader, "cat", ["/data/file"]))["stdout"]
    for _ in range(200):
        seen["idle"] = (await runtime.get_info(reader.id)).state.status
        if seen["idle"] == "stopped":
            break
        await asyncio.sleep(0.1)
    seen["again"] = (await run(reader, "cat", ["/data/file"]))["stdout"]
    await runtime.remove(reader.id, True)
    nowhere = [{"managed_volume": "nowhere", "guest_path": "/a"}]
    seen["nowhere"] = await failure(runtime.create(options(volumes=nowhere)))
    await runtime.volumes.remove(v.id)
    return seen


async def tunnel(box):
    """A service in the box, by CONNECT; then no more."""
    await box.exec("sh", ["-c", "while :; do nc -l -p 7000 -e cat; done"], [])
    await run(box, "sh", ["-c", "until grep -qi ':1b58 .* 0A ' /proc/net/tcp*; do sleep 0.05; done"])
    there = await box.network.tunnel(7000)
    at = urlsplit(there.uri() if callable(there.uri) else there.uri)
    connection = await there.connect()
    await connection.write(b"through the tunnel")
    await connection.shutdown_write()
    echo = b""
    while piece := await connection.read(4096):
        echo += piece
    await connection.close()
    await box.network.revoke_tunnel(7000)
    return {"echo": echo.decode(), "revoked": await failure(asyncio.open_connection(at.hostname, at.port))}


async def main(archives, url, key, prefix):
    got = {}
    runtime = connect(url, key, prefix)
    name = f"python-{os.getpid()}"
    box = await runtime.create(options(), name)
    got["created"] = {"id": box.id, "name": box.name}
    again, created = await runtime.get_or_create(options(), name)
    got["again"] = {"created": created, "id": again.id}
    got["info"] = (await runtime.get_info(name)).id
    got["listed"] = [i.id for i in await runtime.list_info()]
    got["nobody"] = await runtime.get("nobody")
    got["taken"] = await failure(runtime.create(options(), name))
    got["badImage"] = await failure(runtime.create(boxlite.BoxOptions(image="127.0.0.1:1/no/such:image")))

    await box.start()
    got["running"] = (await runtime.get_info(name)).state.status
    got["output"] = await run(box, "sh", ["-c", "echo out $GREETING $WHO; echo err >&2; exit 3"], [("WHO", "you")])
    got["input"] = await run(box, "cat", [], input="grüße\n")
    got["network"] = (await run(box, "ls", ["/sys/class/net"]))["stdout"]
    got["big"] = len((await run(box, "sh", ["-c", "yes 0123456789abcde | head -n 65536"]))["stdout"])
    got["missing"] = await failure(box.exec("/no/such", []))
    got["signal"] = await run(box, "sleep", ["1000"], act=lambda x: x.signal(15)) if hasattr(boxlite.Execution, "signal") else None
    got["killed"] = await run(box, "sleep", ["1000"], act=lambda x: x.kill())
    got["boxMetrics"] = (await box.metrics()).commands_executed_total
    got["metrics"] = (await runtime.metrics()).boxes_created_total

    if hasattr(box, "network"):
        got["tunnel"] = await tunnel(box)
    if hasattr(boxlite, "VolumeHandle"):
        got["volumes"] = await volumes(runtime)
    alone = await runtime.create(options(network=boxlite.NetworkSpec(mode="disabled")), name + "-alone")
    got["alone"] = (await run(alone, "ls", ["/sys/class/net"]))["stdout"]
    info = getattr(await runtime.get_info(alone.id), "network", None)  # 0.9 does not tell
    got["aloneInfo"] = info and info.outbound.mode
    await runtime.remove(alone.id, True)
    await run(box, "sh", ["-c", "echo first >/root/value"])
    handle = box.snapshot
    made = await handle.create(name="a/b c")
    got["snapshot"] = {"boxId": made.box_id, "name": made.name, "createdAt": made.created_at, "sizeBytes": made.size_bytes,
                       "containerDiskBytes": made.container_disk_bytes}
    got["snapshotTwice"] = await failure(handle.create(name="a/b c"))
    got["snapshots"] = [s.name for s in await handle.list()]
    got["snapshotGot"] = {"name": (await handle.get("a/b c")).name}
    got["snapshotNone"] = await handle.get("none")
    await run(box, "sh", ["-c", "echo second >/root/value"])
    got["restoreRunning"] = await failure(handle.restore("a/b c"))
    copy = await box.clone_box(name=f"{name}-copy")
    got["copy"] = {"id": copy.id, "name": copy.name, **await run(copy, "cat", ["/root/value"])}
    file = await copy.export(dest=archives)
    await copy.stop()
    await runtime.remove(copy.id, False)
    back = await runtime.import_box(file, f"{name}-back")
    got["back"] = {"id": back.id, "name": back.name, **await run(back, "cat", ["/root/value"])}
    await runtime.remove(back.id, True)
    await box.stop()
    await handle.restore("a/b c")
    got["restored"] = await run(box, "cat", ["/root/value"])
    await handle.remove("a/b c")
    got["snapshotsAfter"] = len(await handle.list())

    if not boxlite.__version__.startswith("0.9"):
        main = ["id -u >/tmp/main; pwd >>/tmp/main; exec sleep 1000"]
        own = await runtime.create(options(entrypoint=["sh", "-c"], cmd=main, user="65534", working_dir="/tmp"))
        script = "until [ $(wc -l </tmp/main) = 2 ]; do sleep 0.05; done 2>/dev/null; cat /tmp/main; id -u; pwd"
        got["main"] = (await run(own, "sh", ["-c", script]))["stdout"]
        await runtime.remove(own.id, True)
    got["removeRunning"] = await failure(runtime.remove(box.id, False))
    await box.stop()
    got["stopped"] = (await runtime.get_info(name)).state.status
    await runtime.remove(box.id, False)
    got["gone"] = await runtime.get_info(name)
    got["stranger"] = await failure(connect(url, "wrong:wrong", prefix).list_info())
    print(json.dumps(got))


def connect(url, key, prefix):
    if not hasattr(boxlite, "ApiKeyCredential"):
        # 0.9.1 speaks the 2026-02 dialect: key is the id and the secret of a client.
        id, _, secret = key.partition(":")
        return boxlite.Boxlite.rest(boxlite.BoxliteRestOptions(url=url, client_id=id, client_secret=secret, prefix=prefix))
    credential = boxlite.ApiKeyCredential(key)
    return boxlite.Boxlite.rest(boxlite.BoxliteRestOptions(url=url, credential=credential, path_prefix=prefix))


asyncio.run(main(*sys.argv[1:]))
sys.stdout.flush()
# Without the interpreter's own end: the SDK's threads are still there and now and then abort in it.
os._exit(0)
