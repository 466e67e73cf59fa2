#!/bin/sh
# Sees to it that a make target finds what it needs: tools/setup.sh demo|bench|test|check|check-deep
# Debian and Ubuntu: installs what is missing through apt.  Elsewhere: names the packages and stops.
set -eu

libraries='cc make sqlite curl microhttpd uv'
case ${1-} in
demo) needs=$libraries ;;
bench) needs="$libraries pkg-config apr glib uthash zdb gnuplot" ;;
test) needs="$libraries cjson g++ clang python pkg-config cmake sanitizers musl 32bit mingw wine" ;;
check) needs="$libraries cjson clang clang-format python" ;;
check-deep) needs="$libraries cjson clang clang19 python valgrind cppcheck" ;;
*) echo "usage: tools/setup.sh demo|bench|test|check|check-deep" >&2; exit 2 ;;
esac

# Each need, how to see that it is there, and its packages.  "-": not there, the tests skip those rows.
# need        there if                    apt                        dnf                   pacman       apk               brew
table='
cc            flag:-pthread               gcc,libc6-dev              gcc                   gcc           gcc,musl-dev      gcc
make          tool:make                   make                       make                  make          make              make
sqlite        header:sqlite3.h            libsqlite3-dev             sqlite-devel          sqlite        sqlite-dev        sqlite
curl          header:curl/curl.h          libcurl4-openssl-dev       libcurl-devel         curl          curl-dev          curl
microhttpd    header:microhttpd.h         libmicrohttpd-dev          libmicrohttpd-devel   libmicrohttpd libmicrohttpd-dev libmicrohttpd
uv            header:uv.h                 libuv1-dev                 libuv-devel           libuv         libuv-dev         libuv
cjson         header:cjson/cJSON.h        libcjson-dev               cjson-devel           cjson         cjson-dev         cjson
clang19       tool:clang-19               clang-19,llvm-19,libclang-rt-19-dev -            -             -                 -
valgrind      tool:valgrind               valgrind                   valgrind              valgrind      valgrind          -
cppcheck      tool:cppcheck               cppcheck                   cppcheck              cppcheck      cppcheck          cppcheck
apr           library:apr-util-1          libapr1-dev,libaprutil1-dev apr-devel,apr-util-devel apr-util    apr-util-dev      apr-util
glib          library:glib-2.0            libglib2.0-dev             glib2-devel           glib2         glib-dev          glib
zdb           library:zdb                 libzdb-dev                 -                     libzdb        -                 libzdb
gnuplot       tool:gnuplot                gnuplot-nox                gnuplot               gnuplot       gnuplot           gnuplot
uthash        header:uthash.h             uthash-dev                 uthash-devel          uthash        uthash-dev        uthash
g++           tool:g++                    g++                        gcc-c++               gcc           g++               gcc
clang         tool:clang                  clang                      clang                 clang         clang             llvm
clang-format  tool:clang-format           clang-format               clang-tools-extra     clang         clang-extra-tools clang-format
python        tool:python3                python3                    python3               python        python3           python3
pkg-config    tool:pkg-config             pkg-config                 pkgconf               pkgconf       pkgconf           pkgconf
cmake         tool:cmake                  cmake                      cmake                 cmake         cmake             cmake
sanitizers    flag:-fsanitize=thread      gcc                        libasan,libtsan,libubsan gcc        -                 -
musl          tool:musl-gcc               musl-tools                 -                     -             -                 -
32bit         flag:-m32                   gcc-multilib               -                     -             -                 -
mingw         tool:x86_64-w64-mingw32-gcc gcc-mingw-w64-x86-64-win32 -                     -             -                 -
wine          tool:wine                   wine                       -                     -             -                 -
'

there() {
    case $1 in
    header:*) printf '#include <%s>\n' "${1#*:}" | cc ${CPPFLAGS-} -E - >/dev/null 2>&1 ;;
    flag:*) echo 'int main(void) { return 0; }' | cc "${1#*:}" -x c - -o /dev/null 2>/dev/null ;;
    library:*) pkg-config --exists "${1#*:}" 2>/dev/null ;;
    tool:*) command -v "${1#*:}" >/dev/null ;;
    esac
}

column() { # of the missing needs
    echo "$missing" | awk -v column="$1" 'NF && $column != "-" { gsub(",", " ", $column); print $column }' |
        tr '\n' ' '
}

missing=
for need in $needs; do
    case $need-$(uname -m) in
    *-x86_64) ;;
    32bit-* | mingw-* | wine-*) continue ;; # their rows are for x86-64
    esac
    line=$(echo "$table" | awk -v need="$need" '$1 == need')
    there "$(echo "$line" | awk '{ print $2 }')" || missing="$missing
$line"
done
command -v apt-get >/dev/null && here=3 || here=4
[ -n "$(column $here)" ] || exit 0

if [ $here = 3 ]; then
    sudo=
    if [ "$(id -u)" != 0 ]; then
        sudo='sudo -n'
        [ ! -t 0 ] || sudo='sudo'
    fi
    echo "make $1 installs: $(column 3)"
    if $sudo apt-get -qq update && $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $(column 3) >/dev/null
    then
        exit 0
    fi
fi
cat >&2 <<END

make $1 needs packages that this machine lacks.  To install them:
  apt-get install $(column 3)
  dnf install     $(column 4)
  pacman -S       $(column 5)
  apk add         $(column 6)
  brew install    $(column 7)
END
exit 1
