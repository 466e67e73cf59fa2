# The wait-time distribution of pools, from build/bench.tsv to docs/pool_waits.svg; `make bench` runs it.
# A void run, in which other processes had the processors, changes no picture.
if (system("grep -c 'hold_100us_pool_4.*void_' build/bench.tsv") > 0) {
    print "pool_waits.svg is left as it was: the run is void"
    exit
}
set terminal svg size 760,420 font "sans-serif,13" background rgb "white"
set output "docs/pool_waits.svg"
set title "How long 8 threads wait for one of 4 resources, each held for 100 us"
set xlabel "share of all acquires (percent) that waited at most so long"
set ylabel "wait"
set logscale y
set yrange [10:1e8]
set ytics ("10 ns" 10, "100 ns" 100, "1 us" 1e3, "10 us" 1e4, "100 us" 1e5, "1 ms" 1e6, "10 ms" 1e7, "100 ms" 1e8)
set xtics ("10" 0, "25" 1, "50" 2, "75" 3, "90" 4, "95" 5, "99" 6, "99.9" 7, "all" 8)
set xrange [-0.3:8.3]
set grid ytics lc rgb "#dddddd"
set key left top
waits(name) = "< awk -F'\\t' '$2 == \"hold_100us_pool_4\" && $4 == \"" . name . \
    "\" && $5 ~ /^wait_/ { print n++, ($6 < 10 ? 10 : $6) }' build/bench.tsv"
set style line 1 lw 3 pt 7 ps 0.7 lc rgb "#0060ad"
set style line 2 lw 2 pt 5 ps 0.6 lc rgb "#c03028"
set style line 3 lw 2 pt 9 ps 0.7 lc rgb "#888888"
plot waits("rm_pool") using 1:2 with linespoints ls 1 title "rm\\_pool", \
     waits("apr_reslist") using 1:2 with linespoints ls 2 title "apr\\_reslist", \
     waits("g_async_queue") using 1:2 with linespoints ls 3 title "GAsyncQueue"
