#!/bin/sh
# Who may include whom. A room sees its own headers, include/, and the rooms named here; everything else is an error.
# Also: vendor headers stay in one place each, file names are unique in the tree, no file reaches 1,000 lines.
# Usage: tools/check_includes.sh
set -eu
cd "$(dirname "$0")/.."
find include lib cli bench examples -name '*.[ch]' -o -name '*.def' -o -name '*.inc' | sort | awk '
    function room_of(file, part) {
        split(file, part, "/")
        return part[1] == "lib" ? part[2] : part[1] == "bench" ? "bench/" : part[1]
    }
    function fail(line) {
        print line
        failed = 1
    }
    BEGIN {
        # room: the rooms it may include
        may["include"] = ""
        may["base"]    = ""
        may["kernels"] = "-"               # not even include/: its own headers and the C library only
        may["ops"]     = "base kernels"
        may["io"]      = "base"
        may["data"]    = "base io"
        may["report"]  = "base io"
        may["dist"]    = "base"
        may["model"]   = "base ops io"
        may["train"]   = "base ops model data io dist"  # ops: the optimizer is a layer too
        may["measure"] = "base ops model data io dist"
        may["quant"]   = "base ops model data io"
        may["convert"] = "base model data io"
        may["lab"]     = "base train measure quant report data io model dist"
        may["bench"]   = "base kernels ops model train quant data"
        may["selftest"] = "base kernels ops model train measure quant data"
        may["cli"]     = ""
        may["bench/"]  = ""                # the folder at the top, of programs beside the product
        may["examples"] = ""
        # vendor headers: the only place that may name them
        only["mpi.h"] = "lib/dist/dist_mpi.c"
        only["cuda.h"] = only["cuda_runtime.h"] = "lib/cuda/"
        only["immintrin.h"] = only["arm_neon.h"] = only["cpuid.h"] = "lib/kernels/"
        only["dnnl.h"] = only["cblas.h"] = "lib/ops/gemm.c"
        only["event.pb-c.h"] = only["png.h"] = "lib/io/"
        only["microhttpd.h"] = "lib/report/live.c"
        only["utf8proc.h"] = only["pcre2.h"] = "lib/data/"
    }
    {
        name = $0
        sub(/.*\//, "", name)
        if (name in home)
            fail($0 ": a file of this name is already " home[name])
        home[name] = $0
        files[++count] = $0
    }
    END {
        for (i = 1; i <= count; i++) {
            file = files[i]
            room = room_of(file)
            if (!(room in may))
                fail(file ": tools/check_includes.sh does not know the room " room)
            lines = 0
            while ((getline line < file) > 0) {
                lines++
                if (line !~ /^[ \t]*#[ \t]*include[ \t]*["<]/)
                    continue
                header = line
                sub(/^[^"<]*["<]/, "", header)
                sub(/[">].*/, "", header)
                if (header in only && index(file, only[header]) != 1)
                    fail(file ":" lines ": <" header "> belongs to " only[header])
                if (!(header in home))
                    continue
                to = room_of(home[header])
                if (to == room || (to == "include" && may[room] != "-") || index(" " may[room] " ", " " to " "))
                    continue
                fail(file ":" lines ": " room " may not include " to "/" header)
            }
            close(file)
            if (lines >= 1000)
                fail(file ": " lines " lines; split it")
        }
        exit failed
    }'
