"""Other agents, each in a file of its own. An adapter is a class Peer:

    name                            for the report
    Peer(place)                     fetches what it needs into build/bench/peers/ (pinned, checked, never committed), brings
                                    its agent up in the guest of `place` (a places.GuestLink), beside ours and the floor
    binary                          size in bytes
    ping(), exec(), stdout(n)       one operation each: ns; stdout also returns how many bytes came
    boot()                          a machine of its own, from QEMU's start to the agent's signal that it serves: ns
    pids()                          its processes in the guest, whose memory is its own
    close()

What cannot be brought up raises harness.Failed with the reason, which goes into the report."""
