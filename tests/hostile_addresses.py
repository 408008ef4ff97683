"""What a user may type as a base URL to reach what is not theirs to reach.

One list for both guards, `papita_core.outbound` and `alchat_core.providers.guard`, which know
nothing of each other: the tests of either run all of it.
"""

# ruff: noqa: RUF001

from __future__ import annotations

from typing import Final

# Addresses that no guard lets through.
PRIVATE: Final = (
    # this machine, this network, private networks, link-local with the metadata of clouds
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1"),  # noqa: S104
    *("172.31.255.255", "192.168.1.1", "169.254.169.254", "169.254.0.1"),
    # shared by a provider's customers, protocol assignments, documentation, benchmarks, 6to4 relays
    *("100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.0.10", "192.0.2.1", "198.51.100.1"),
    *("203.0.113.9", "198.18.0.1", "198.19.255.255", "192.88.99.1"),
    # multicast, reserved, broadcast
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    # the same in IPv6
    *("::", "::1", "fe80::1", "fe80::1%eth0", "febf::1", "fc00::1", "fd00:ec2::254", "fec0::1"),
    *("ff02::1", "ff0e::1", "100::1", "2001:db8::1", "3fff::1", "5f00::1", "4000::1"),
    # an IPv4 address in an IPv6 one: mapped, compatible, translated, NAT64, 6to4, Teredo
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:0"),
    *("::127.0.0.1", "::10.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::7f00:1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a9fe:a9fe::"),
    *("2002:808:808::1", "2001:0:53aa:64c:0:fbff:80ff:fffe", "2001::1", "2001:10::1"),
)

# Addresses of the internet, which any guard has to let through.
GLOBAL: Final = (
    *("1.1.1.1", "8.8.8.8", "104.18.7.192", "100.63.255.255", "100.128.0.1", "172.32.0.1"),
    *("2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001:81b::200a"),
    # A network of IPv6 alone reaches all of IPv4 by these.
    *("::ffff:8.8.8.8", "64:ff9b::8.8.8.8"),
)

# Hosts that lead to this machine or nowhere; a server listens on 127.0.0.1 and must not be asked.
HOSTS: Final = (
    *("127.0.0.1", "localhost", "localhost.", "LOCALHOST", "LocalHost.", "0.0.0.0"),  # noqa: S104
    # what the C library takes for an address, too: short, decimal, octal, hexadecimal, padded
    *("127.1", "127.0.1", "0", "2130706433", "0x7f000001", "0x7f.1", "0X7F.0.0.1", "0x7f.0x0.1"),
    *("017700000001", "0177.0.0.1", "0177.1", "127.000.000.001", "127.0.0.1.", "127.1."),
    *("4294967297", "0x17f000001", "127.0.0.0x1", "127.0.0.257"),
    *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]"),
    *("[0000:0000:0000:0000:0000:0000:0000:0001]", "[::127.0.0.1]", "[64:ff9b::7f00:1]"),
    *("[::ffff:0:127.0.0.1]", "[2002:7f00:1::]", "[fe80::1]", "[fe80::1%25lo]", "[fe80::1%lo]"),
    *("[::1%25lo]", "[::1%lo]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "169.254.169.254"),
    # other digits and full stops, which a browser and a library make into those of ASCII
    *("①②⑦.⓪.⓪.①", "１２７．０．０．１", "127。0。0。1", "127｡0｡0｡1", "127．0．0．1"),
    *("ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "ｌｏｃａｌｈｏｓｔ", "localhost。", "٣.٣.٣.٣", "１２７.1"),
    # escapes
    *("127%2e0%2e0%2e1", "%6cocalhost", "127.0.0.1%00", "127.0.0.1%0d%0a", "127.0.0.1%2f"),
)

# Whole URLs; `{port}` is that server's.
URLS: Final = (
    *("", " ", "x", "/", "//127.0.0.1:{port}/", "127.0.0.1:{port}", "http:127.0.0.1:{port}/"),
    *("http:///127.0.0.1:{port}/", "http://", "http:///", "http://:{port}/", "https://"),
    # other schemes
    *("ftp://127.0.0.1:{port}/", "file:///etc/passwd", "gopher://127.0.0.1:{port}/"),
    *("dict://127.0.0.1:{port}/", "unix:///var/run/docker.sock", "data:text/plain,x"),
    *("javascript:alert(1)", "ws://127.0.0.1:{port}/", "http+unix://x/", "HTTP+FTP://x/"),
    # a user name that looks like a host, and the other way round
    *("http://api.openai.com@127.0.0.1:{port}/", "http://api.openai.com:80@127.0.0.1:{port}/"),
    *("http://user:pass@127.0.0.1:{port}/", "http://@127.0.0.1:{port}/", "http://:@127.0.0.1/"),
    *("http://user@api.openai.com/", "http://127.0.0.1:{port}@api.openai.com/"),
    *("http://1.1.1.1&@127.0.0.1:{port}#@3.3.3.3/", "http://1.1.1.1:80@127.0.0.1:{port}/"),
    # backslashes and white space, which parsers read differently
    *("http://api.openai.com\\@127.0.0.1:{port}/", "http:\\\\127.0.0.1:{port}\\"),
    *("http://127.0.0.1:{port}\\@api.openai.com/", "http://127.0.0.1\\:{port}/"),
    *("http://127.0.0.1 :{port}/", "http://127.0.0.1\t:{port}/", "http://127.0.0.1\n:{port}/"),
    *("http://127.0.0.1:{port}/\r\nX: y", "ht\ttp://127.0.0.1:{port}/", "http://127.0.0.1\x00/"),
    *("http://\u200b127.0.0.1:{port}/", "http://127.0.0.1\u00ad:{port}/"),
    # ports
    *("http://127.0.0.1:99999/", "http://127.0.0.1:-1/", "http://127.0.0.1:{port}:80/"),
    *("http://127.0.0.1:0x50/", "http://127.0.0.1:{port}a/", "http://127.0.0.1:８０/"),
    # brackets
    *("http://[::1", "http://::1]:{port}/", "http://[127.0.0.1]:{port}/", "http://[v1.x]:{port}/"),
    *("http://[::1]{port}/", "http://[[::1]]:{port}/", "http://[]:{port}/", "http://[g::1]/"),
    # names
    "http://" + "a" * 64 + ".invalid:{port}/",
    "http://" + "a." * 140 + "invalid:{port}/",
    *("http://..:{port}/", "http://.:{port}/", "http://xn--:{port}/", "http://a℀b:{port}/"),
)
