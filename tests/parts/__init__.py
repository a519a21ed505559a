"""The real parts that tests run on: each a server in a folder of its own, on 127.0.0.1."""
