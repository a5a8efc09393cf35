"""
What the end-to-end tests stand on: the proxy as a process, scripted peers, and the checks that
every test ends with.  Start from one test:

    from support.peers import echo, reset_after
    from support.pattern import KIB, pattern

    def test_S05_a_shadow_that_resets_is_detached_and_nobody_else_notices(doppel, server):
        primary = server(echo)
        shadow = server(reset_after(10 * KIB))
        mirror = doppel(primary, shadows=[shadow])

        client = mirror.connect()
        assert client.exchange(pattern(64 * KIB)) == pattern(64 * KIB)
        client.close()

        assert mirror.shadow(0, "shadow0")["reason"] == "rst"

The peers live in support.peers, the proxy in support.proxy, and nothing has to be closed: the
fixtures end all peers in good order and then run the universal checks (support.checks).

    support.waiting    eventually() and let_pass(), the only place that sleeps; deadlines
    support.pattern    bytes that show where they belong; tallies with running SHA-256
    support.peers      Server, Client and the behaviours: echo, sink, answer(n), hold, ...
    support.secure     certificates, and TLS for peers
    support.proxy      Doppel: start, metrics, logs, signals; small buffers
    support.checks     what must hold at the end of every test
    support.processes  descriptors, CPU ticks and sockets as /proc shows them
    support.network    network namespaces and nftables rules
    support.admin      the admin endpoint over TCP
    support.manager    what a service manager does: sockets it passes on, and what it is told
    support.faults     the LD_PRELOAD fault shim and strace's injection
    support.dns        a scripted DNS server
"""
