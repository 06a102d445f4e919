"""SOAP messages as the classic EC2 tools signed them: Timestamp and Body, X.509 token, by zeep and xmlsec."""

from datetime import datetime, timedelta, timezone

import xmlsec
from conftest import RC
from lxml import etree
from zeep.wsse import utils
from zeep.wsse.signature import BinarySignature

METHODS = {
    "sha1": (xmlsec.Transform.RSA_SHA1, xmlsec.Transform.SHA1),
    "sha256": (xmlsec.Transform.RSA_SHA256, xmlsec.Transform.SHA256),
}


class Signed(BinarySignature):
    """zeep signs a Timestamp only where there is one: this puts one in, as every classic client did. Replies are not signed."""

    def apply(self, envelope, headers):
        security = utils.get_security_header(envelope)
        now = datetime.now(timezone.utc)
        created = utils.WSU.Created(now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        expires = utils.WSU.Expires((now + timedelta(seconds=300)).strftime("%Y-%m-%dT%H:%M:%SZ"))
        security.append(utils.WSU.Timestamp(created, expires))
        return super().apply(envelope, headers)

    def verify(self, envelope):
        return envelope


def signer(algorithm="sha1"):
    signature, digest = METHODS[algorithm]
    return Signed(RC["EC2_PRIVATE_KEY"], RC["EC2_CERT"], signature_method=signature, digest_method=digest)


def soap_envelope(body, signed=True, algorithm="sha1"):
    """The bytes of an envelope around the text of one operation element."""
    envelope = etree.fromstring(
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Header/>'
        f"<soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>")
    if signed:
        envelope, _ = signer(algorithm).apply(envelope, {})
    return etree.tostring(envelope)
