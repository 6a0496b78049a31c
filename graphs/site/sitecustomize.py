"""Python runs this as it starts, in every process of the Ray head: graphs/cluster.py puts the folder on its path.

Ray Serve imports pandas to be able to encode data frames, which nothing here sends, and ``ray start`` imports all of Serve
for a command that it does not run: tens of MiB a process. It also begins a server for Ray's own client, which nobody uses,
wherever it can import grpc. Each does without; whoever else imports the same gets it.
"""

from deployments.refusing import refuse

refuse("pandas", importer="ray.serve._private.utils")
refuse("ray.serve", importer="ray.scripts.scripts")
refuse("grpc", importer="ray._private.utils")
