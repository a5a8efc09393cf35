"""each allocation / socket call of a first lookup fails once"""
import sys, pytest
sys.path.insert(0,"/work/main/tests")
from support.dns import Name, NameServer
from support.peers import echo, Ended
from support.proxy import shadow
from support.waiting import eventually
@pytest.mark.parametrize("calls", ["malloc,calloc,realloc,strdup", "socket,connect,send,sendto,recvfrom,recv,fcntl,setsockopt,epoll_ctl"])
def test_sweep(doppel, server, faults, tmp_path, calls):
    with NameServer() as dns:
        dns.table["primary.test"] = Name(a=["127.0.0.1"], aaaa=["::1"])
        primary = server(echo)
        out=[]
        for call in range(1, 45):
            fault = faults(calls+":n=told:errno=EMFILE" if "socket" in calls else calls+":n=told", on=False, release=False)
            m = doppel(f"primary.test:{primary.port}", "--resolv-conf", str(dns.resolv_conf(tmp_path)), "--dns-timeout","400ms", env=fault.env)
            m.expect(identity="none", access_log=False, books=True)
            fault.strike_call(call)
            c = m.connect()
            try: ok = c.exchange(b"hello") == b"hello"
            except Ended: ok = False
            c.close()
            fault.off()
            def served():
                c = m.connect()
                try: return c.exchange(b"hello") == b"hello"
                except Ended: return False
            eventually(served, "later")
            assert m.metric("doppel_worker_restarts_total") == 0
            out.append((call, ok, fault.struck()))
            assert m.stop() == 0
            if fault.struck()==0: break
        print(out)
        open("/tmp/dns/sweep."+calls[:4],"w").write(repr(out))
