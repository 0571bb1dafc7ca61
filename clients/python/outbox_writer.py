"""A Django program that writes events with its own rows: the second door of the outbox.

Usage: outbox_writer.py DATABASE WRITERS TRANSACTIONS SEED

DATABASE is sqlite:PATH or postgres://USER@HOST:PORT/NAME. Each writer is a thread that counts accounts up,
waits a little before its commit, and gives one transaction in ten up. It prints "ready" when the tables are
there, and ends when every writer has tried so many transactions. It may be killed at any time.
"""

import random
import sys
import threading
import time
from urllib.parse import urlsplit

import django
from django.conf import settings

ACCOUNTS = 7


def database(url):
    """What Django calls a database."""
    if url.startswith("sqlite:"):
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": url.removeprefix("sqlite:"),
            # A transaction that is going to write waits for the others when it begins.
            "OPTIONS": {"timeout": 60, "transaction_mode": "IMMEDIATE"},
        }
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username,
        "PASSWORD": parts.password or "",
        "HOST": parts.hostname,
        "PORT": parts.port or 5432,
    }


settings.configure(DATABASES={"default": database(sys.argv[1])}, USE_TZ=True)
django.setup()

from django.db import connection, models, transaction  # noqa: E402  (needs the settings)


class Account(models.Model):
    id = models.BigIntegerField(primary_key=True)
    number = models.BigIntegerField()

    class Meta:
        app_label = "shop"
        db_table = "accounts"


class Change(models.Model):
    account = models.BigIntegerField()
    number = models.BigIntegerField()

    class Meta:
        app_label = "shop"
        db_table = "changes"


class Submitted(models.Model):
    """The framework's table. Django writes it, and neither makes nor changes it."""

    topic = models.TextField()
    event_key = models.TextField(null=True)
    event_type = models.TextField(null=True)
    event_value = models.JSONField(null=True)

    class Meta:
        app_label = "shop"
        db_table = "courant_outbox_submit"
        managed = False


class GivenUp(Exception):
    """A transaction ends without its commit."""


def make_tables():
    there = connection.introspection.table_names()
    with connection.schema_editor() as editor:
        for model in (Account, Change):
            if model._meta.db_table not in there:
                editor.create_model(model)
    for account in range(ACCOUNTS):
        Account.objects.get_or_create(id=account, defaults={"number": 0})


def change(dice):
    """Counts one account up. The event is a row like every other one."""
    with transaction.atomic():
        account = Account.objects.select_for_update().get(id=dice.randrange(ACCOUNTS))
        account.number += 1
        account.save()
        Change.objects.create(account=account.id, number=account.number)
        Submitted.objects.create(
            topic="shop.changes",
            event_key=f"account-{account.id}",
            event_type="shop.account-changed",
            event_value={"account": account.id, "number": account.number},
        )
        time.sleep(dice.random() * 0.01)
        if dice.randrange(10) == 0:
            raise GivenUp


def write(seed, transactions):
    dice = random.Random(seed)
    for _ in range(transactions):
        try:
            change(dice)
        except GivenUp:
            pass
    connection.close()


def main():
    writers, transactions, seed = (int(word) for word in sys.argv[2:5])
    make_tables()
    connection.close()
    print("ready", flush=True)
    threads = [
        threading.Thread(target=write, args=(seed + writer, transactions)) for writer in range(writers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
