"""Sends a directory to S3 with the AWS CRT client, all files at once, as its manual does.

usage: crt.py DIRECTORY BUCKET PREFIX ENDPOINT
"""
import os
import sys
from urllib.parse import quote, urlparse

from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import ClientBootstrap, ClientTlsContext, DefaultHostResolver, EventLoopGroup, TlsContextOptions
from awscrt.s3 import S3Client, S3RequestTlsMode, S3RequestType


def client(endpoint):
    group = EventLoopGroup()
    bootstrap = ClientBootstrap(group, DefaultHostResolver(group))
    account = AwsCredentialsProvider.new_static(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    options = dict(bootstrap=bootstrap, region=os.environ["AWS_REGION"], credential_provider=account)
    if endpoint.scheme == "https":
        trust = TlsContextOptions()
        trust.override_default_trust_store_from_path(None, os.environ["AWS_CA_BUNDLE"])
        options.update(tls_mode=S3RequestTlsMode.ENABLED, tls_connection_options=ClientTlsContext(trust).new_connection_options())
    else:
        options.update(tls_mode=S3RequestTlsMode.DISABLED)
    return S3Client(**options)


def main(directory, bucket, prefix, endpoint):
    endpoint = urlparse(endpoint)
    s3 = client(endpoint)
    sent = []
    for where, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(where, name)
            key = prefix + "/" + os.path.relpath(path, directory)
            headers = HttpHeaders([("host", endpoint.netloc), ("content-length", str(os.path.getsize(path)))])
            request = HttpRequest("PUT", "/" + bucket + "/" + quote(key), headers)
            sent.append(s3.make_request(request=request, type=S3RequestType.PUT_OBJECT, send_filepath=path))
    for one in sent:
        one.finished_future.result()


main(*sys.argv[1:])
