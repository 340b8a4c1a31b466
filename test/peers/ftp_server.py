"""An FTP server (pyftpdlib) of one directory on a free port of this machine, until standard input ends."""
import sys
import threading

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

directory, user, password = sys.argv[1:4]
authorizer = DummyAuthorizer()
authorizer.add_user(user, password, directory, perm="elr")
authorizer.add_anonymous(directory)
FTPHandler.authorizer = authorizer
server = FTPServer(("127.0.0.1", 0), FTPHandler)


def end_with_input():
    sys.stdin.read()
    server.close_all()


threading.Thread(target=end_with_input, daemon=True).start()
print("READY", server.address[1], flush=True)
server.serve_forever()
