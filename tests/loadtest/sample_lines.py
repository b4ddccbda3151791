"""One line of each form, as the service writes them."""

LINES = {
    "watch": b"2022-03-18T06:12:47,326332,GET /data/m/ghostbusters+1984/54.mpg",
    "rate": b"2022-03-18T05:55,118106,GET /rate/grumpier+old+men+1995=3",
    "recommend": b"2022-02-08T18:06:56.145104,284507,recommendation request a.example.edu:8082, status 200,"
    b" result: boxing+helena+1993, aliens+1986, 133 ms",
    "failed": b"2022-02-08T18:06:56.145,7,recommendation request a:1, status 400, result: movie 1 not found, 9 ms",
    "account": b"2026-02-14T10:30:03,99999,GET /create_account",
}
