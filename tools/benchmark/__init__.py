"""
What tools/bench is made of.

    stage       a namespace, two cores, a directory; processes and what they cost
    peers       the programs build/bench/sink and build/bench/load, driven by lines
    proxies     the contestants: how each is started between a client, a primary and shadows
    measure     one measurement each: what is started, driven, checked and read off
    works       which measurements there are, and who takes part
    results     runs, their median, and the ratio to the reference
    goals       the figures to reach, and whether they are
    report      Markdown
    plot        SVG

The client's and the servers' ends are C: load.c over wire.c and histogram.c, sink.c, and ends.c below
both.
"""
